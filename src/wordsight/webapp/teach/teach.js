"use strict";
const KEYS = "123456789" + "0qwertiopadgjklzxcvbm"; // of words; s, u, f, n, y, h and space are taken
const WHY = {
  likely: "One of the likeliest so far.",
  doubtful: "I am not sure about this one.",
  new: "Unlike all photos you were asked about.",
  audit: "Check: drawn at random from the photos I would label, to see how often I am right.",
  missed: "Drawn at random from the photos I leave without a label, to tell how many I miss.",
};
const $ = (id) => document.getElementById(id);
let state = null, queue = [], sending = Promise.resolve(), waiting = 0;
let marks = {}, word = 0, several = null, polling = null;

// JSON, as a name may hold bytes that are no text, which addresses can't say
const photo = (name, side) => `photo?side=${side}&name=${encodeURIComponent(JSON.stringify(name))}`;
const make = (tag, fields = {}, ...inside) => {
  const node = Object.assign(document.createElement(tag), fields);
  node.append(...inside);
  return node;
};

function trouble(text) {
  $("trouble").textContent = text || "";
  $("trouble").hidden = !text;
}

async function call(path, body) {
  const answer = await fetch(path, body === undefined ? {} : {
    method: "POST", keepalive: true, headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

// Answers are sent one after the other; the page shows the next photo without waiting for them.
function send(path, body) {
  waiting += 1;
  sending = sending.then(async () => {
    try {
      const told = await call(path, body);
      trouble("");
      waiting -= 1;
      take(told, path === "undo");
    } catch (error) {
      waiting -= 1;
      trouble(error.message === "Failed to fetch"
        ? "wordsight does not answer. Is it still running? Your answers so far are saved."
        : error.message);
      if (!waiting) { queue = []; take(await call("state").catch(() => state), true); }
    }
  });
}

function take(told, anew) {
  state = told;
  if (anew) queue = [];
  if (!waiting) {
    const shown = queue[0];
    queue = told.questions.slice();
    const at = queue.findIndex((one) => shown && one.file_name === shown.file_name);
    if (at > 0) queue.unshift(queue.splice(at, 1)[0]);
  }
  for (const one of told.questions) new Image().src = photo(one.file_name, 1280);
  show();
}

function show() {
  document.title = `Teach wordsight: ${state.words.join(", ")}`;
  $("words").textContent = state.words.join(", ");
  $("sentence").textContent = state.sentence
    + (state.unreadable ? ` ${state.unreadable} can't be read.` : "");
  strip($("learned"), state.learned, (one) => one.label);
  $("second").hidden = !state.again.length;
  strip($("again"), state.again, (one) => one.labels.join(", ") || "none", true);
  strip($("given"), state.given, (one) => one.labels.join(", ") || "none", true);
  const finishing = state.finishing, grid = state.grid.length > 0 && !queue.length;
  $("done").hidden = !finishing;
  $("grid").hidden = !grid || Boolean(finishing);
  $("one").hidden = grid || Boolean(finishing);
  if (finishing) showFinish(finishing);
  else if (grid) showGrid();
  else showQuestion();
}

function strip(place, list, caption, clickable) {
  place.replaceChildren(...list.map((one) => {
    const image = make("img", { src: photo(one.file_name, 320), alt: one.file_name, loading: "lazy" });
    const inside = clickable
      ? make("button", { title: "Ask me again", onclick: () => again(one.file_name) }, image) : image;
    return make("figure", {}, inside, make("figcaption", { textContent: caption(one) }));
  }));
}

function again(name) {
  queue.unshift({ file_name: name, suggestion: null, why: "" });
  state.finishing = null;
  show();
}

function button(key, text, act, fields = {}) {
  return make("button", { type: "button", onclick: act, ...fields },
    make("kbd", { textContent: key }), text);
}

function showGrid() {
  const words = state.words, key = state.grid.map((one) => one.file_name).join("/");
  $("grid-title").textContent = words.length === 1
    ? `Click every photo that shows ${words[0]}.` : "Choose a word, then click the photos that show it.";
  $("grid-words").replaceChildren(...(words.length === 1 ? [] : words.map((name, at) => {
    const node = button(KEYS[at] || "", name, () => { word = at; showGrid(); });
    node.setAttribute("aria-pressed", String(at === word));
    return node;
  })));
  if ($("tiles").dataset.key !== key) {
    marks = {};
    $("tiles").dataset.key = key;
    $("tiles").replaceChildren(...state.grid.map((one) => {
      const node = make("button", { type: "button" },
        make("img", { src: photo(one.file_name, 320), alt: one.file_name }));
      node.dataset.name = one.file_name;
      node.onclick = () => {
        const given = marks[one.file_name] || [];
        marks[one.file_name] = given.includes(words[word])
          ? given.filter((name) => name !== words[word]) : [...given, words[word]];
        showGrid();
      };
      return node;
    }));
  }
  let chosen = 0;
  for (const node of $("tiles").children) {
    const given = marks[node.dataset.name] || [];
    chosen += given.length > 0;
    node.setAttribute("aria-pressed", String(given.length > 0));
    node.querySelector(".name")?.remove();
    if (given.length) node.append(make("span", { className: "name", textContent: given.join(", ") }));
  }
  const rest = state.grid.length - chosen;
  $("bar").replaceChildren(
    button("Enter", `${chosen} chosen; the other ${rest} show none`, sendGrid, { className: "main" }));
}

function sendGrid() {
  const answers = Object.fromEntries(state.grid.map((one) => [one.file_name, marks[one.file_name] || []]));
  state.grid = [];
  send("answers", { answers });
}

function showQuestion() {
  const one = queue[0];
  $("photo").hidden = !one;
  if (!one) {
    $("question").textContent = waiting ? "One moment…" : "There is nothing left to ask.";
    $("why").textContent = "";
    $("bar").replaceChildren(button("u", "Undo", undo), button("f", "Finish", finish, { className: "main push" }));
    return;
  }
  const words = state.words;
  $("question").textContent = words.length === 1
    ? `Does this photo show ${words[0]}?` : "What does this photo show?";
  $("why").textContent = (WHY[one.why] || "") + (one.suggestion ? ` My guess: ${one.suggestion}.` : "");
  if ($("photo").dataset.name !== one.file_name) {
    $("photo").dataset.name = one.file_name;
    $("photo").src = photo(one.file_name, 1280);
    $("photo").alt = one.file_name;
  }
  const chosen = several || [];
  const answers = words.map((name, at) => {
    const node = button(KEYS[at] || "", words.length === 1 ? `Yes, ${name}` : name, () => press(name));
    if (several) node.setAttribute("aria-pressed", String(chosen.includes(name)));
    return node;
  });
  const bar = [...answers, button("Space", words.length === 1 ? "No" : "None of these", () => give([]))];
  if (words.length > 1) {
    const node = button("h", "Several", () => { several = several ? null : []; show(); });
    node.setAttribute("aria-pressed", String(Boolean(several)));
    bar.push(node);
    if (several) bar.push(button("Enter", "That is all", () => give(several), { className: "main" }));
  }
  if (one.why !== "audit") bar.push(button("s", "Skip", skip));
  bar.push(button("u", "Undo", undo),
    button("f", state.promised ? "Finish" : "Stop here", finish, { className: state.promised ? "main push" : "push" }));
  $("bar").replaceChildren(...bar);
}

function press(name) {
  if (!several) return give([name]);
  several = several.includes(name) ? several.filter((one) => one !== name) : [...several, name];
  show();
}

function give(labels) {
  const one = queue.shift();
  if (!one) return;
  several = null;
  send("answer", { file_name: one.file_name, labels });
  show();
}

function skip() {
  if (!queue.length || queue[0].why === "audit") return; // a check leaves nothing out
  const one = queue.shift();
  send("skip", { file_name: one.file_name });
  show();
}

function undo() { send("undo", {}); }

function finish() { send("finish", {}); }

function showFinish(told) {
  const words = state.words.join(", ");
  if (told.what) {
    $("done").replaceChildren(make("h2", { textContent: told.what === "files" ? "Copying…" : "Writing results…" }),
      make("p", { textContent: `${told.done} of ${told.total} ${told.what}` }));
    $("bar").replaceChildren();
    clearTimeout(polling);
    polling = setTimeout(async () => take(await call("state"), false), 700);
    return;
  }
  const lines = !told.report ? [make("p", { textContent: told.error })] : [
    make("p", { textContent: `${state.sentence} ${told.unsure} are doubtful.` }),
    make("p", {}, "See them: open ", make("code", { textContent: told.report })),
    make("p", {}, "Use the model on other photos: ",
      make("code", { textContent: `wordsight predict PHOTOS -m "${told.model}"` })),
    make("p", { textContent: `Or type the words again: wordsight run -c "${words}" finds this model by itself.` }),
  ];
  if (told.sorted) lines.push(make("p", {}, "Copies lie in a folder a word, the doubtful in _check, all others in _none: ", make("code", { textContent: told.sorted }),
    ". Take them back: ", make("code", { textContent: `wordsight sort --undo -o "${told.sorted}"` })));
  for (const [name, why] of told.skipped || []) lines.push(make("p", { textContent: `Not copied: ${name}: ${why}` }));
  if (told.more) lines.push(make("p", { textContent: `… and ${told.more} more were not copied.` }));
  if (told.report && told.error) lines.push(make("p", { textContent: told.error }));
  $("done").replaceChildren(make("h2", { textContent: told.report ? "Done" : "Not finished" }), ...lines);
  const next = [button("", "Go on teaching", () => { state.finishing = null; show(); })];
  if (told.report) next.push(button("", "Copy all to sorted folders", () => send("sort", {}), { className: "main push" }));
  $("bar").replaceChildren(...next);
}

document.addEventListener("keydown", (event) => {
  if (!state || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase(), at = KEYS.indexOf(key);
  const grid = !$("grid").hidden, one = !$("one").hidden;
  if (grid && key === "enter" && event.target.tagName !== "BUTTON") sendGrid();
  else if (grid && at >= 0 && at < state.words.length) { word = at; showGrid(); }
  else if (!one) return;
  else if (at >= 0 && at < state.words.length) press(state.words[at]);
  else if (key === "y" && state.words.length === 1) press(state.words[0]);
  else if (key === " " || key === "n") give([]);
  else if (key === "enter" && several) give(several);
  else if (key === "h" && state.words.length > 1) { several = several ? null : []; show(); }
  else if (key === "s") skip();
  else if (key === "u") undo();
  else if (key === "f") finish();
  else return;
  event.preventDefault();
});

call("state").then((told) => take(told, true)).catch((error) => trouble(error.message));
