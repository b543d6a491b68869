// Corrections: what a photo really shows. The browser remembers them; they leave as a table.
let current = null;
const corrections = data.corrections;
const store = corrections && `wordsight:${corrections.key}`;
const marks = new Map(); // name -> { was, label }; label "" where only the wrong one is known
let kept = true;
const others = new Map(); // marks on photos of other pages, and of earlier runs
if (corrections) {
  const byName = new Map(cards.map((card) => [card.dataset.name, card]));
  try {
    for (const [name, mark] of JSON.parse(localStorage.getItem(store) || "[]")) {
      const card = byName.get(name);
      if (card && (mark.label || mark.was === card.dataset.group)) marks.set(name, mark);
      else if (!card) others.set(name, mark);
    }
  } catch { kept = false; }
}
const keep = () => {
  try {
    localStorage.setItem(store, JSON.stringify([...others, ...marks]));
    kept = true;
  } catch { kept = false; }
};
const answers = corrections ? [...corrections.classes, corrections.none] : [];
const spoken = (label) => (label === corrections.none ? "none of these" : label);
const called = (card) => (card.dataset.stranger || corrections.others.includes(card.dataset.group) ? corrections.none : card.dataset.group);
const mark = (card, label) => {
  const name = card.dataset.name;
  if (label === null) marks.delete(name);
  else marks.set(name, { was: card.dataset.group, label });
  keep();
  offer(card);
  summarise();
};
const wrong = (card) => {
  const left = answers.filter((label) => label !== called(card));
  mark(card, left.length === 1 ? left[0] : "");
};
const controls = (card, holder) => {
  const state = marks.get(card.dataset.name);
  holder.replaceChildren();
  const press = (text, act, name) => {
    const button = made("button", holder, text, name);
    button.type = "button";
    button.addEventListener("click", act);
    return button;
  };
  if (!state) {
    if (card.dataset.fate === "silent" && !card.dataset.stranger && answers.includes(card.dataset.group)) press("Right", () => mark(card, card.dataset.group), "yes").setAttribute("aria-label", `Right: ${card.dataset.name} shows ${card.dataset.group}`);
    press("Wrong", () => wrong(card), "no").setAttribute("aria-label", `Wrong: ${card.dataset.name}`);
    return;
  }
  const select = made("select", holder);
  select.setAttribute("aria-label", `What ${card.dataset.name} shows`);
  made("option", select, "shows what?").value = "";
  for (const label of answers) made("option", select, spoken(label)).value = label;
  select.value = state.label;
  select.addEventListener("change", () => mark(card, select.value));
  press("↶", () => mark(card, null), "undo").setAttribute("aria-label", `Take back what was said of ${card.dataset.name}`);
};
const offer = (card) => {
  card.classList.toggle("marked", marks.has(card.dataset.name));
  const had = document.activeElement;
  const spots = [card.querySelector(".mark") || made("div", card, undefined, "mark")];
  if (find("large").open || card === current) spots.push(document.querySelector(".large-mark"));
  for (const [at, spot] of spots.entries()) {
    if (at && card !== current) continue;
    const inside = spot.contains(had);
    controls(card, spot);
    if (inside) spot.querySelector("select, button").focus();
  }
  const reached = card.querySelector(".picture").tabIndex === 0;
  for (const one of card.querySelectorAll(".mark button, .mark select")) one.tabIndex = reached ? 0 : -1;
};
const decide = (card, event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const key = event.key.toLowerCase(), at = Number(key);
  if (key === "w") wrong(card);
  else if (key === "y") answers.includes(called(card)) && mark(card, called(card));
  else if (key === "u") mark(card, null);
  else if (key === "0") mark(card, corrections.none);
  else if (at >= 1 && at <= 9 && at <= corrections.classes.length) mark(card, corrections.classes[at - 1]);
  else return false;
  event.preventDefault();
  return true;
};
const summarise = () => {
  const open = [...marks.values()].filter((one) => !one.label).length;
  const where = data.pages > 1 ? " on this page" : "";
  let text = marks.size ? `${count(marks.size, "correction", "corrections")}${where}.` : `None so far${where}. Press Wrong below a photo, or Right where your eyes are needed.`;
  if (open) text += ` ${count(open, "has", "have")} no right label yet and ${open === 1 ? "is" : "are"} left out of the table.`;
  text += kept ? "" : " This browser remembers none of them: save before you close the page.";
  find("corrected").textContent = text;
  find("corrections-next").hidden = find("bar").hidden = !marks.size;
  find("bar").firstChild.textContent = count(marks.size, "correction", "corrections");
};
const cell = (text) => {
  const safe = /^'*[=+\-@\t\r]/.test(text) ? `'${text}` : text; // no formula for a spreadsheet
  return /[",;\r\n]/.test(safe) || safe !== safe.trim() ? `"${safe.replaceAll('"', '""')}"` : safe;
};
const table = () => {
  const rows = [["file_name", "label", "checked"]];
  for (const card of cards) {
    const made = marks.get(card.dataset.name), place = card.dataset.place || card.dataset.name;
    if (made) { if (made.label) rows.push([place, made.label, "yes"]); }
    else if (answers.includes(called(card)) && (card.dataset.stranger || said(card, data.threshold)[0] === "labelled")) rows.push([place, called(card), ""]);
  }
  return `\ufeff${rows.map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
};
const save = () => {
  const link = made("a", document.body);
  link.href = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
  link.download = corrections.file;
  link.hidden = true;
  link.click();
  setTimeout(() => { URL.revokeObjectURL(link.href); link.remove(); }, 10000);
};
const copied = (place, text) => {
  const code = made("code", place, text);
  place.append(" ");
  const button = made("button", place, "Copy", "copy");
  button.type = "button";
  button.setAttribute("aria-label", `Copy ${text}`);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
  });
};
