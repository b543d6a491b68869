(() => {
  "use strict";
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
      if (!fate) continue;
      card.className = fate[0];
      card.querySelector(".fate").textContent = fate[1];
    }
    arrange();
  };
  const outcomes = data.outcomes;
  const recount = () => {
    const by = outcomes.names.map(() => [0, 0, 0]);
    let accepted = 0, right = 0, foreign = 0, read = 0;
    outcomes.p.forEach((p, i) => {
      const other = outcomes.foreign[i] === "1";
      if (!other) read++;
      if (threshold === null || outcomes.stranger[i] === "1" || p < threshold) return;
      const good = outcomes.right[i] === "1";
      if (other) { foreign += !good; return; }
      accepted++;
      right += good;
      const row = by[outcomes.top[i]];
      row[0]++;
      row[good ? 1 : 2]++;
    });
    const share = read ? Math.round((1000 * accepted) / read) / 10 : 0;
    let text = `${threshold === null ? "Without a threshold" : `From ${shownThreshold()} on`}: ${count(accepted, "picture gets", "pictures get")} a label (${share}%), ${count(read - accepted, "is", "are")} left without.`;
    if (outcomes.judged && accepted) text += ` Of the labels ${right.toLocaleString("en")} are right and ${(accepted - right).toLocaleString("en")} wrong (${Math.round((1000 * right) / accepted) / 10}% right).`;
    if (outcomes.others) text += ` Of ${count(outcomes.others, "picture", "pictures")} of none of the classes, ${count(foreign, "gets", "get")} one.`;
    find("recount").textContent = text;
    const rows = find("by-class").tBodies[0].rows;
    by.forEach((numbers, row) => numbers.slice(0, outcomes.judged ? 3 : 1).forEach((number, at) => (rows[row].cells[at + 1].textContent = number)));
    moveMarkers(read ? accepted / read : 0, accepted ? (accepted - right) / accepted : 0);
  };
  const place = (value, low, high, from, to) => from + Math.min(Math.max((value - low) / (high - low || 1), 0), 1) * (to - from);
  const position = (t) => (t === null ? 4 : Math.min(4, -Math.log10(Math.max(1 - t, 1e-9))));
  const shownThreshold = () => (threshold > 0.9999 ? threshold.toPrecision(6) : String(Math.round(threshold * 10000) / 10000));
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
  const slider = find("threshold");
  const told = () => {
    const text = threshold === null ? "none" : shownThreshold();
    find("threshold-value").textContent = text;
    slider.setAttribute("aria-valuetext", text);
    recount();
    judge();
  };

  // Which pictures are shown, and in which order.
  const group = find("group"), order = find("order");
  const fits = (card, wanted) => {
    if (!wanted) return true;
    if (wanted === "fate:mistakes") return card.dataset.right === "0" && !card.classList.contains("silent");
    if (wanted === "fate:wrong-guess") return card.dataset.right === "0";
    if (wanted === "fate:silent") return card.classList.contains("silent");
    return `group:${card.dataset.group}` === wanted;
  };
  const orders = {
    "": (a, b) => a.place - b.place,
    sure: (a, b) => b.p - a.p || a.place - b.place,
    unsure: (a, b) => a.p - b.p || a.place - b.place,
    name: (a, b) => (a.card.dataset.name < b.card.dataset.name ? -1 : 1),
  };
  const places = cards.map((card, index) => ({ card, place: index, p: Number(card.dataset.p || 0) }));
  let visible = cards;
  const arrange = () => {
    if (!group) return;
    const sorted = [...places].sort(orders[order.value]);
    visible = sorted.map((entry) => entry.card).filter((card) => fits(card, group.value));
    const wanted = new Set(visible);
    for (const card of cards) card.hidden = !wanted.has(card);
    find("shown").textContent = visible.length === cards.length ? "" : `${count(visible.length, "picture", "pictures")} of ${cards.length.toLocaleString("en")}${data.pages > 1 ? " on this page" : ""}`;
    cards.forEach((card) => (card.querySelector("button").tabIndex = -1));
    if (visible.length) visible[0].querySelector("button").tabIndex = 0;
  };
  const reorder = () => {
    const list = document.querySelector(".gallery");
    list.append(...[...places].sort(orders[order.value]).map((entry) => entry.card));
    arrange();
  };
  if (group) {
    group.addEventListener("change", arrange);
    order.addEventListener("change", reorder);
  }

  // Keyboard: arrows walk through the gallery, Enter enlarges, Escape closes.
  const gallery = document.querySelector(".gallery");
  const step = (from, key) => {
    const at = visible.indexOf(from);
    const columns = getComputedStyle(gallery).gridTemplateColumns.split(" ").length;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns, Home: 0, End: visible.length - 1 }[key];
    return to === undefined ? undefined : visible[Math.min(Math.max(to, 0), visible.length - 1)];
  };
  if (gallery) gallery.addEventListener("keydown", (event) => {
    const next = step(event.target.closest("li"), event.key);
    if (!next) return;
    event.preventDefault();
    for (const card of visible) card.querySelector("button").tabIndex = -1;
    const button = next.querySelector("button");
    button.tabIndex = 0;
    button.focus();
  });
  const large = find("large");
  let current = null, heated = true;
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
      made("td", row, `${(100 * p).toFixed(2)}%`);
    }
    const link = text.querySelector(".large-link");
    link.replaceChildren();
    if (card.dataset.link) Object.assign(made("a", link, "the heat map in full size"), { href: card.dataset.link });
    if (!large.open) large.showModal();
  };
  for (const card of cards) card.querySelector("button").addEventListener("click", () => enlarge(card));
  find("close").addEventListener("click", () => large.close());
  large.addEventListener("click", (event) => event.target === large && large.close());
  large.addEventListener("keydown", (event) => {
    if (event.key === "h" || event.key === "H") { heated = !heated; enlarge(current); }
    const next = ["ArrowRight", "ArrowLeft"].includes(event.key) && step(current, event.key);
    if (next) { event.preventDefault(); enlarge(next); }
  });
  large.addEventListener("close", () => current && current.querySelector("button").focus());

  if (outcomes) {
    slider.value = position(threshold);
    slider.addEventListener("input", () => {
      threshold = Math.round((1 - 10 ** -slider.value) * 100000) / 100000;
      told();
    });
    find("threshold-reset").addEventListener("click", () => {
      threshold = data.threshold;
      slider.value = position(threshold);
      told();
    });
    told();
  } else arrange();
})();
