// Which pictures are shown, where, and in which order.
const group = find("group"), order = find("order"), jump = find("jump");
const parts = new Map([...document.querySelectorAll(".part")].map((part) => [part.dataset.part, part]));
const fits = (card, wanted) => {
  if (!wanted) return true;
  if (wanted === "fate:mistakes") return card.dataset.right === "0" && card.dataset.fate !== "silent";
  if (wanted === "fate:wrong-guess") return card.dataset.right === "0";
  if (wanted === "fate:silent") return card.dataset.fate === "silent";
  if (wanted === "fate:unsure") return card.dataset.fate === "silent" && !card.dataset.stranger;
  if (wanted === "fate:labelled") return card.dataset.fate === "labelled";
  if (wanted === "marked") return marks.has(card.dataset.name);
  return `group:${card.dataset.group}` === wanted;
};
const surest = (a, b) => b.p - a.p || a.place - b.place;
const orders = {
  "": (a, b) => (parts.size ? surest(a, b) : a.place - b.place),
  sure: surest,
  unsure: (a, b) => a.p - b.p || a.place - b.place,
  name: (a, b) => (a.card.dataset.name < b.card.dataset.name ? -1 : 1),
};
const places = cards.map((card, index) => ({ card, place: index, p: card.dataset.stranger ? 0 : Number(card.dataset.p || 0) }));
const named = outcomes ? outcomes.names : [];
const lists = new Map();
for (const list of document.querySelectorAll(".gallery")) {
  const part = list.closest(".part");
  lists.set(part ? `${part.dataset.part}/${list.parentElement.dataset.name}` : "", list);
}
const listOf = (card) => {
  if (!parts.size) return lists.get("");
  if (card.dataset.stranger) return card.parentElement;
  const name = card.dataset.group;
  const key = card.dataset.fate === "silent" ? "eyes" : data.rest.includes(name) ? "rest" : "labelled";
  const found = lists.get(`${key}/${name}`);
  if (found) return found;
  const place = parts.get(key).querySelector(".groups"), section = made("section", null, undefined, "group");
  const heading = made("h3", section), list = made("ul", section, undefined, "gallery");
  section.dataset.name = name;
  section.id = `${key}-${lists.size + 1}`;
  made("bdi", heading, name);
  heading.append(key === "eyes" ? "? " : " ");
  made("span", heading, undefined, "count");
  const later = [...place.children].find((one) => named.indexOf(one.dataset.name) > named.indexOf(name));
  place.insertBefore(section, later || null);
  lists.set(`${key}/${name}`, list);
  return list;
};
let visible = cards, rows = [];
const reach = (card, on) => {
  for (const one of card.querySelectorAll("button, select")) one.tabIndex = on ? 0 : -1;
};
const arrange = () => {
  if (!group) return;
  const wanted = new Map([...lists.values()].map((list) => [list, []]));
  for (const { card } of [...places].sort(orders[order.value])) {
    card.hidden = !fits(card, group.value);
    const list = listOf(card);
    if (!wanted.has(list)) wanted.set(list, []);
    wanted.get(list).push(card);
  }
  for (const [list, inside] of wanted) {
    if (inside.length !== list.children.length || inside.some((card, at) => list.children[at] !== card)) list.replaceChildren(...inside);
  }
  tally();
  const shown = cards.filter((card) => !card.hidden).length;
  find("shown").textContent = shown === cards.length ? "" : `${count(shown, "picture", "pictures")} of ${cards.length.toLocaleString("en")}${data.pages > 1 ? " on this page" : ""}`;
};
const tally = () => {
  const shownIn = (element) => element.querySelectorAll("li:not([hidden])").length;
  const told = (element, number) => {
    element.hidden = !number;
    const place = element.querySelector(":scope > h2 .count, :scope > h3 .count, :scope > summary .count");
    if (place) place.textContent = number.toLocaleString("en");
  };
  for (const part of parts.values()) {
    for (const one of part.querySelectorAll(".group")) {
      one.style.setProperty("--n", shownIn(one));
      told(one, shownIn(one));
    }
    told(part, shownIn(part));
  }
  if (jump) {
    const last = jump.querySelector('a[href="#sure"]');
    jump.replaceChildren();
    const link = (id, text, number) => {
      const found = made("a", jump);
      found.href = `#${id}`;
      made("bdi", found, text);
      found.append(" ");
      made("b", found, number.toLocaleString("en"));
    };
    for (const [key, part] of parts) {
      if (part.hidden) continue;
      if (key !== "labelled") link(part.id, part.querySelector("h2").firstChild.textContent.trim(), shownIn(part));
      else for (const one of part.querySelectorAll(".group:not([hidden])")) link(one.id, one.dataset.name, shownIn(one));
    }
    if (last) jump.append(last);
  }
  walk();
};
// Those that the arrows walk through, and the only one that Tab finds.
const walk = () => {
  const open = [...document.querySelectorAll(".gallery")].filter((list) => !list.closest("details:not([open])"));
  rows = open.map((list) => [...list.children].filter((card) => !card.hidden)).filter((row) => row.length);
  visible = rows.flat();
  cards.forEach((card) => reach(card, false));
  if (visible.length) reach(visible[0], true);
};
for (const part of parts.values()) part.addEventListener("toggle", walk);
if (jump) jump.addEventListener("click", (event) => {
  const link = event.target.closest("a"), part = link && find(link.hash.slice(1));
  if (part && part.tagName === "DETAILS") part.open = true;
});
if (group) {
  group.addEventListener("change", arrange);
  order.addEventListener("change", arrange);
}

// Keyboard: arrows walk through the pictures, Enter enlarges, Escape closes.
const step = (from, key) => {
  const at = visible.indexOf(from), row = rows.findIndex((one) => one.includes(from));
  if (at < 0) return undefined;
  const columns = getComputedStyle(from.parentElement).gridTemplateColumns.split(" ").length;
  const inside = rows[row].indexOf(from), column = inside % columns;
  const above = rows[row - 1], below = rows[row + 1], last = rows[row].length - 1;
  const down = () => {
    if (inside + columns <= last) return rows[row][inside + columns];
    if (inside - column + columns <= last) return rows[row][last];
    return below ? below[Math.min(column, below.length - 1)] : from;
  };
  const up = () => {
    if (inside >= columns) return rows[row][inside - columns];
    if (!above) return from;
    const start = Math.floor((above.length - 1) / columns) * columns;
    return above[Math.min(start + column, above.length - 1)];
  };
  const ways = { ArrowRight: () => visible[at + 1] || from, ArrowLeft: () => visible[at - 1] || from, ArrowDown: down, ArrowUp: up, Home: () => visible[0], End: () => visible[visible.length - 1] };
  return ways[key] && ways[key]();
};
const gallery = find("pictures");
if (gallery) gallery.addEventListener("keydown", (event) => {
  const card = event.target.closest("li");
  if (!card || event.target.tagName === "SELECT") return;
  if (corrections && decide(card, event)) return;
  if (event.key.toLowerCase() === "h" && always) always.click();
  const next = step(card, event.key);
  if (!next) return;
  event.preventDefault();
  cards.forEach((one) => reach(one, false));
  reach(next, true);
  next.querySelector("button").focus();
});
const large = find("large");
let heated = true;
const enlarge = (card) => {
  current = card;
  const holder = find("large-picture"), image = card.querySelector("img"), text = find("large-text");
  holder.replaceChildren();
  if (image) {
    const frame = made("span", holder, undefined, "frame");
    frame.style.setProperty("--wide", image.getAttribute("width") / image.getAttribute("height"));
    frame.append(image.cloneNode());
    frame.firstChild.loading = "eager";
    dress(card, frame, heated);
  }
  text.querySelector("h3").textContent = card.dataset.name;
  const parts = [".label", ".fate", ".note"].map((part) => card.querySelector(part)?.textContent).filter(Boolean);
  text.querySelector(".large-said").textContent = parts.join(" · ");
  const rows = text.querySelector("tbody");
  rows.replaceChildren();
  for (const [name, p] of JSON.parse(card.dataset.likeliest || "[]")) {
    const row = made("tr", rows);
    made("th", row, name).scope = "row";
    const meter = made("meter", made("td", row));
    meter.value = p;
    meter.setAttribute("aria-label", name);
    made("td", row, `${Math.min(999, Math.floor(1000 * p)) / 10}%`);
  }
  if (corrections) offer(card);
  const link = text.querySelector(".large-link");
  link.replaceChildren();
  if (card.dataset.link) Object.assign(made("a", link, "the heat map in full size"), { href: card.dataset.link });
  if (!large.open) large.showModal();
};
for (const card of cards) card.querySelector("button").addEventListener("click", () => enlarge(card));
find("close").addEventListener("click", () => large.close());
large.addEventListener("click", (event) => event.target === large && large.close());
large.addEventListener("keydown", (event) => {
  if (event.target.tagName === "SELECT" || (corrections && decide(current, event))) return;
  if (event.key === "h" || event.key === "H") { heated = !heated; enlarge(current); }
  const next = ["ArrowRight", "ArrowLeft"].includes(event.key) && step(current, event.key);
  if (next) { event.preventDefault(); enlarge(next); }
});
large.addEventListener("close", () => current && current.querySelector("button").focus());

if (corrections && group) {
  for (const place of document.querySelectorAll(".file")) place.textContent = corrections.file;
  for (const button of document.querySelectorAll(".save")) button.addEventListener("click", save);
  find("forget").addEventListener("click", () => {
    const gone = cards.filter((card) => marks.delete(card.dataset.name));
    keep();
    gone.forEach(offer);
    summarise();
  });
  find("corrections-folder").textContent = corrections.folder;
  find("corrections-note").textContent = corrections.note;
  for (const [what, said] of corrections.commands) copied(made("li", find("corrections-folder").closest("ol"), `${what}: `), said);
  summarise();
}
if (outcomes) {
  slider.value = position(threshold);
  slider.addEventListener("input", () => {
    // two digits of what is left to 1, so that the command is short and says just this
    threshold = Number((1 - Number((10 ** -slider.value).toPrecision(2))).toFixed(6));
    told();
  });
  find("threshold-reset").addEventListener("click", () => {
    threshold = data.threshold;
    slider.value = position(threshold);
    told();
  });
  told();
} else judge();
