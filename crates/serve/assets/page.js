"use strict";
// Everything that comes from the server is set as text, never as markup.
const $ = (id) => document.getElementById(id);
const keyed = document.body.dataset.keyed === "true";
let feed = null;
let turn = 0;

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
}

function button(text, className, act) {
  const node = make("button", className, text);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

const number = (x) => (x === null || x === undefined ? "–" : Number(x.toPrecision(4)).toString());

function say(text) {
  $("message").hidden = !text;
  $("message").textContent = text || "";
}

async function call(path, options = {}) {
  const headers = { ...options.headers };
  const key = sessionStorage.getItem("key");
  if (key) headers.Authorization = "Bearer " + key;
  const response = await fetch(path, { ...options, headers });
  const body = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new Error(body.error || "status " + response.status);
  return body;
}

async function guarded(act) {
  try {
    await act();
    say("");
  } catch (error) {
    say(error.message);
  }
}

async function send(events) {
  await call("/api/feedback", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(events),
  });
}

const eventOf = (item, kind) => ({
  user: feed.user, item: item.id, kind, request: feed.request_id, position: item.position,
});

async function show(user) {
  const mine = ++turn;
  const path = encodeURIComponent(user);
  const n = Math.min(200, Math.max(1, Number($("count").value) || 10));
  const [history, got] = await Promise.all([
    call("/api/users/" + path + "/history?n=100"),
    call("/api/recommend/" + path + "?n=" + n + "&trace=true"),
  ]);
  if (mine !== turn) return;
  feed = got;
  $("user").value = user;
  history_shown(history);
  feed_shown(got);
}

function history_shown(history) {
  $("counts").textContent = history.remembered + " actions, " + history.seen + " items seen";
  const rows = history.actions.map((action) => {
    const row = make("li");
    const what = make("div", "what");
    what.append(make("div", "title", action.title || action.item));
    if (action.title) what.append(make("div", "id", action.item));
    const time = make("time", "", new Date(action.time_ms).toLocaleString());
    what.append(time);
    const strength = action.value === 1 ? "" : " " + number(action.value);
    row.append(what, make("span", "chip", action.kind + strength));
    return row;
  });
  if (!rows.length) rows.push(make("li", "dim", history.known ? "Nothing yet." : "This user is not known."));
  $("history").replaceChildren(...rows);
}

function feed_shown(got) {
  $("empty").hidden = got.items.length > 0;
  $("empty").textContent = "There is nothing left to show.";
  $("kind").hidden = false;
  $("kind").textContent = got.personal ? "personal" : "not personal";
  $("kind").classList.toggle("personal", got.personal);
  $("reason").hidden = !got.reason;
  $("reason").textContent = got.reason || "";
  $("next").disabled = !got.items.length;
  $("again").disabled = false;
  const stages = (got.stages || []).map((s) => {
    const chip = make("span");
    chip.append(make("b", "", s.stage), " " + s.entered + " → " + s.left + " · " + (s.micros / 1000).toFixed(1) + " ms");
    return chip;
  });
  $("stages").hidden = !stages.length;
  $("stages").replaceChildren(...stages);
  $("feed").replaceChildren(...got.items.map(item_shown));
}

function item_shown(item) {
  const card = make("li");
  const row = make("div", "row");
  const what = make("div", "what");
  what.append(make("div", "title", item.title || item.id));
  if (item.title) what.append(make("div", "id", item.id));
  const trace = item.trace;
  if (trace) {
    const found = make("div", "found");
    for (const hit of trace.channels) found.append(make("span", "chip", hit.channel + " #" + (hit.position + 1)));
    what.append(found);
  }
  const acts = make("div", "acts");
  for (const kind of ["click", "like"]) {
    acts.append(button(kind === "click" ? "Click" : "Like", "", (e) => guarded(async () => {
      e.target.disabled = true;
      await send([eventOf(item, kind)]);
      e.target.classList.add("done");
      await show(feed.user);
    }).finally(() => { e.target.disabled = false; })));
  }
  const more = make("details");
  more.append(make("summary", "", "Why is it here?"));
  if (trace) more.append(...trace_shown(trace));
  acts.append(button("Similar", "", () => guarded(() => similar(item, more))));
  row.append(make("span", "place", item.position + 1), what, make("span", "score", number(item.score)), acts);
  card.append(row, more);
  return card;
}

function table(heads, rows) {
  const node = make("table");
  const line = (cells, tag) => {
    const tr = make("tr");
    for (const cell of cells) {
      const numeric = typeof cell === "number" || cell === null;
      tr.append(make(tag, numeric ? "number" : "", numeric ? number(cell) : cell));
    }
    return tr;
  };
  const head = make("thead");
  head.append(line(heads, "th"));
  const body = make("tbody");
  body.append(...rows.map((r) => line(r, "td")));
  node.append(head, body);
  return node;
}

function trace_shown(trace) {
  const out = [];
  if (trace.channels.length)
    out.push(table(["Channel", "Position", "Score"], trace.channels.map((c) => [c.channel, c.position + 1, c.score])));
  if (trace.scores.length) out.push(table(["Stage", "Score"], trace.scores.map((s) => [s.stage, s.score])));
  if (trace.rules.length) out.push(table(["Rule", "What it did"], trace.rules.map((r) => [r.rule, r.note])));
  return out;
}

async function similar(item, more) {
  const got = await call("/api/item/" + encodeURIComponent(item.id) + "/neighbors?n=10");
  const old = more.querySelector(".similar");
  if (old) old.remove();
  const box = make("div", "similar");
  box.append(table(["Similar items", "Id", "Likeness"], got.neighbors.map((n) => [n.title || n.id, n.id, n.score])));
  more.append(box);
  more.open = true;
}

async function suggest(prefix) {
  const page = await call("/api/users?limit=20&prefix=" + encodeURIComponent(prefix));
  $("users").replaceChildren(...page.records.map((record) => {
    const option = make("option");
    option.value = record.id;
    return option;
  }));
}

async function random() {
  const page = await call("/api/users?limit=1000");
  if (!page.records.length) throw new Error("there are no users yet; type any id to see the feed of a stranger");
  await show(page.records[Math.floor(Math.random() * page.records.length)].id);
}

let pause;
$("user").addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(() => guarded(() => suggest($("user").value)), 150);
});
$("pick").addEventListener("submit", (e) => {
  e.preventDefault();
  guarded(() => show($("user").value));
});
$("random").addEventListener("click", () => guarded(random));
$("again").addEventListener("click", () => guarded(() => show(feed.user)));
$("next").addEventListener("click", () => guarded(async () => {
  await send(feed.items.map((item) => eventOf(item, "impression")));
  await show(feed.user);
}));
$("key").addEventListener("submit", (e) => {
  e.preventDefault();
  sessionStorage.setItem("key", $("secret").value);
  guarded(() => suggest(""));
});
$("key").hidden = !keyed;
if (!keyed || sessionStorage.getItem("key")) guarded(() => suggest(""));
if (location.hash.length > 1) {
  const [user, open] = location.hash.slice(1).split("!");
  guarded(async () => {
    await show(decodeURIComponent(user));
    if (open) for (const more of document.querySelectorAll("#feed details")) more.open = true;
  });
}
