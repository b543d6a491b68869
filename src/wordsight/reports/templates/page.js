const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const cards = [...document.querySelectorAll(".gallery li")];
for (const part of document.querySelectorAll(".needs-script")) part.hidden = false;
const made = (tag, parent, text, name) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  if (parent) parent.append(element);
  return element;
};
const count = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

// Heat maps and boxes: a cell a byte, painted small and enlarged smoothly by the browser.
const colours = (data.colours.match(/.{6}/g) || []).map((c) => [0, 2, 4].map((at) => parseInt(c.slice(at, at + 2), 16)));
const heatOf = (card) => {
  const [height, width] = card.dataset.grid.split(" ").map(Number);
  const cells = atob(card.dataset.heat);
  const canvas = made("canvas", null, undefined, "heat");
  canvas.width = width;
  canvas.height = height;
  canvas.setAttribute("aria-hidden", "true");
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const colour = colours[Math.round((cells.charCodeAt(i) / 255) * (colours.length - 1))];
    pixels.data.set([...colour, 255], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
};
const boxOf = (sides, name) => {
  const [left, top, right, bottom] = sides.split(" ").map(Number);
  const box = made("span", null, undefined, name);
  Object.assign(box.style, { left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * (right - left)}%`, height: `${100 * (bottom - top)}%` });
  return box;
};
const dress = (card, frame, on) => {
  for (const old of frame.querySelectorAll(".heat, .box")) old.remove();
  if (on && card.dataset.heat) frame.append(heatOf(card));
  if (on && card.dataset.box && !card.classList.contains("silent")) frame.append(boxOf(card.dataset.box, "box"));
  if (on && card.dataset.trueBox) frame.append(boxOf(card.dataset.trueBox, "box true"));
};
const framed = (card) => {
  const image = card.querySelector("img");
  if (!image) return null;
  let frame = image.parentElement;
  if (!frame.classList.contains("frame")) {
    frame = made("span", null, undefined, "frame");
    image.replaceWith(frame);
    frame.append(image);
  }
  return frame;
};
const always = find("always");
const show = (card, on) => {
  const frame = (on || card.querySelector(".frame")) && framed(card);
  if (frame) dress(card, frame, on || (always && always.checked));
};
for (const card of cards) {
  card.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && show(card, true));
  card.addEventListener("pointerleave", () => show(card, false));
  card.addEventListener("focusin", () => show(card, true));
  card.addEventListener("focusout", () => show(card, false));
}
if (always) always.addEventListener("change", () => cards.forEach((card) => show(card, always.checked)));

// The threshold: what it would do to every picture, and to those on this page.
const said = (card, threshold) => {
  if (card.dataset.p === undefined) return null;
  const sure = threshold !== null && !card.dataset.stranger && Number(card.dataset.p) >= threshold;
  if (!sure) return ["silent", card.dataset.stranger ? "resembles none" : "not sure"];
  if (card.dataset.right === undefined) return ["labelled", ""];
  return card.dataset.right === "1" ? ["right", "right"] : ["wrong", "wrong"];
};
let threshold = data.threshold;
const judge = () => {
  for (const card of cards) {
    const fate = said(card, threshold);
    if (!fate || card.dataset.fate === fate[0]) continue;
    card.classList.remove(card.dataset.fate || "silent", "labelled", "right", "wrong");
    card.classList.add(fate[0]);
    card.dataset.fate = fate[0];
    card.querySelector(".fate").textContent = fate[1];
    if (corrections) offer(card);
  }
  arrange();
};
const outcomes = data.outcomes;
const recount = () => {
  const by = outcomes.names.map(() => [0, 0, 0]);
  let accepted = 0, right = 0, foreign = 0, read = 0, doubt = 0;
  outcomes.p.forEach((p, i) => {
    const other = outcomes.foreign[i] === "1";
    if (!other) read++;
    if (threshold === null || outcomes.stranger[i] === "1" || p < threshold) return;
    const good = outcomes.right[i] === "1";
    if (other) { foreign += !good; return; }
    accepted++;
    right += good;
    doubt += 1 - p;
    const row = by[outcomes.top[i]];
    row[0]++;
    row[good ? 1 : 2]++;
  });
  const share = read ? Math.round((1000 * accepted) / read) / 10 : 0;
  const guessed = doubt < 0.5 ? "hardly any" : `about ${Math.round(doubt).toLocaleString("en")}`;
  const wrong = outcomes.judged || !accepted ? "" : `, ${guessed} of them wrong`;
  let text = `${threshold === null ? "Without a threshold" : `At ${shownThreshold()}`}: ${count(accepted, "picture gets", "pictures get")} a label (${share}%)${wrong}. ${count(read - accepted, "is", "are")} left without.`;
  if (outcomes.judged && accepted) text += ` Of the labels ${right.toLocaleString("en")} are right and ${(accepted - right).toLocaleString("en")} wrong (${Math.round((1000 * right) / accepted) / 10}% right).`;
  if (outcomes.others) text += ` Of ${count(outcomes.others, "picture", "pictures")} of none of the classes, ${count(foreign, "gets", "get")} one.`;
  find("recount").textContent = text;
  command();
  const rows = find("by-class").tBodies[0].rows;
  by.forEach((numbers, row) => numbers.slice(0, outcomes.judged ? 3 : 1).forEach((number, at) => (rows[row].cells[at + 1].textContent = number)));
  moveMarkers(read ? accepted / read : 0, accepted ? (accepted - right) / accepted : 0);
};
const place = (value, low, high, from, to) => from + Math.min(Math.max((value - low) / (high - low || 1), 0), 1) * (to - from);
const position = (t) => (t === null ? 4 : Math.min(4, -Math.log10(Math.max(1 - t, 1e-9))));
const shownThreshold = () => String(Number(threshold.toFixed(6)));
const moveMarkers = (coverage, risk) => {
  for (const figure of document.querySelectorAll("#sure figure")) {
    const frame = outcomes.frames[figure.dataset.chart], marker = figure.querySelector(".marker");
    if (!frame || !marker) continue;
    const across = figure.dataset.chart === "coverage" ? position(threshold) : coverage;
    const x = place(across, frame.x_low, frame.x_high, frame.left, frame.right);
    if (marker.tagName === "line") { marker.setAttribute("x1", x); marker.setAttribute("x2", x); }
    else { marker.setAttribute("cx", x); marker.setAttribute("cy", place(risk, frame.y_low, frame.y_high, frame.bottom, frame.top)); }
  }
};
const command = () => {
  const place = find("command");
  if (threshold === data.threshold) {
    place.textContent = threshold === null ? "" : "These results were made with it.";
    return;
  }
  place.textContent = "For results like this, run the same command again with ";
  copied(place, `-t ${shownThreshold()}`);
};
const slider = find("threshold");
const told = () => {
  const text = threshold === null ? "none" : shownThreshold();
  find("threshold-value").textContent = text;
  slider.setAttribute("aria-valuetext", text);
  recount();
  judge();
};
