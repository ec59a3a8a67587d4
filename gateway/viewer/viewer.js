// The viewer: a client of this gateway, the topics of the address (#topic=a&topic=b), and a list of what arrived.

import { connect, literal } from "../client.js";

const most = 1000; // rows kept
const $ = id => document.getElementById(id);

// ---- exact numbers: an int64 has more digits than a number of JavaScript

const exact = (_, value, context) =>
  typeof value === "number" && context?.source && JSON.rawJSON && String(value) !== context.source
    ? JSON.rawJSON(context.source) : value;
const parse = text => JSON.parse(text, exact);
const show = value => JSON.stringify(value, null, 1) // on one line, with blanks where it may be wrapped
  .replace(/([[{])\n\s*/g, "$1").replace(/\n\s*([\]}])/g, "$1").replace(/\n\s*/g, " ");

// ---- connection

const topics = new Map(); // as it was named -> its subscription
const active = new Set(); // of these
let lost = false, connected = false;

function setState(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
}

function address(path) {
  return new URL(path + location.search, location.href.replace(/#.*/, ""));
}

// The token is kept for this tab, and taken out of the address: that is copied, kept in histories and sent to others.
const tokenKey = "pghub-token " + location.pathname;
let token = null, refused; // refused: the token, or the lack of one, that the gateway does not take
try { token = sessionStorage.getItem(tokenKey); } catch { /* not kept */ }
function setToken(text) {
  token = text || null;
  try { token ? sessionStorage.setItem(tokenKey, token) : sessionStorage.removeItem(tokenKey); } catch { /* not kept */ }
}
{
  const query = new URLSearchParams(location.search);
  if (query.has("token")) {
    setToken(query.get("token"));
    query.delete("token");
    history.replaceState(null, "", location.pathname + (query.size ? "?" + query : "") + location.hash);
  }
}
const headers = () => token ? { Authorization: "Bearer " + token } : {};

function say(why, askForToken) {
  $("why").textContent = why;
  const asked = !$("access").hidden;
  $("access").hidden = !askForToken;
  if (askForToken && !asked) $("token").focus();
}

// tokenToTry is asked for before each attempt to connect. None is made before another token is typed.
const tokenToTry = () => token === refused ? new Promise(() => {}) : token;

$("access").onsubmit = submitted => {
  submitted.preventDefault();
  setToken($("token").value);
  $("token").value = "";
  refused = undefined;
  client.reconnect();
};

function stateIs(state, reason, error) {
  switch (state) {
    case "connecting":
      if (token !== refused) setState("connecting", "connecting");
      break;
    case "open":
      setState("connected", "connected");
      say("", false);
      if (lost) row("gap", "gateway", "", "connected again");
      lost = false;
      connected = true;
      break;
    case "waiting":
    case "refused":
      setState("offline", "offline");
      if (error?.code === "not_authorized") refused = token;
      if (!connected) say(reason, error?.code === "not_authorized");
      if (!lost) row("gap", "gateway", "", `${connected ? "connection lost" : "no connection"} (${reason})`);
      lost = true;
      connected = false;
      active.clear();
      renderTopics();
  }
}

function advised(a) {
  switch (a.action) {
    case "disconnect": setState("waiting", "database away"); break;
    case "reconnect": case "connect": setState("connected", "connected"); break;
    case "subscribe":
      active.add(literal(a.topic));
      renderTopics();
  }
  const words = {
    subscribe: `subscribed to ${a.topic}`, disconnect: "the database is away: events may be missing from here",
    reconnect: "the database is back: events arrive again", lag: a.dropped === null ? `events of ${a.topics.join(", ")} are missing here: ${gone[a.reason] ?? a.reason}` : `${a.dropped} events dropped: this page was too slow`,
    replay: `${a.topics?.join(", ")}: what was before`, live: `${a.topics?.join(", ")}: as it happens`,
    connect: "connected to the database", stop: "the hub was stopped", close: "closed by the gateway",
  };
  row(["disconnect", "reconnect", "lag"].includes(a.action) ? "gap" : "advisory", a.action, "", words[a.action] ?? show(a));
}

const gone = {
  expired: "they are not kept any more", foreign: "the position is not one of this server", history: "this process does not remember them",
  unknown: "nobody keeps them",
};

// ---- subscriptions

// follow subscribes to a topic, or to those that a pattern stands for, each of which can be removed by itself then.
async function follow(name, since) {
  const subscription = client.subscribe(name, since ? { since } : {}), [wanted] = subscription.topics;
  topics.set(name, subscription);
  subscription.ready.then(() => {
    if (subscription.topics.length === 1 && subscription.topics[0] === wanted) return;
    for (const found of subscription.topics.map(literal)) if (!topics.has(found)) follow(found);
    leave(name);
  }, () => {}); // the loop hears of it, too
  try {
    for await (const e of subscription) {
      if (e.type === "event") {
        if (e.topic === wanted || !topics.has(literal(e.topic))) received(e); // else it is followed by itself
      } else if (e.reason === "disconnect") row("gap", "gateway", "", `${e.topics.join(", ")}: events may be missing before this line`); // others are advisories
    }
  } catch (error) {
    $("refused").textContent = `${error.topic ?? name}: ${error.message}`;
    leave(name);
  }
}

function leave(name) {
  topics.get(name)?.close();
  topics.delete(name);
  active.delete(name);
  remember();
  renderTopics();
}

function received(e) {
  const plain = "undecodable" in e;
  row(plain ? "undecodable" : "event", e.topic, e.key.map(k => k.rawJSON ?? String(k)).join(","),
    plain ? e.payload : e.value === null ? "" : show(e.value), plain ? `a plain NOTIFY, shown as it came: ${e.undecodable}` : "", e.id);
}

function remember() {
  const query = new URLSearchParams([...topics.keys()].map(t => ["topic", t]));
  history.replaceState(null, "", location.pathname + location.search + (topics.size ? "#" + query : ""));
}

function renderTopics() {
  $("no-topics").hidden = topics.size > 0;
  $("topics").replaceChildren(...[...topics.keys()].map(topic => {
    const li = document.createElement("li"), name = document.createElement("span"), remove = document.createElement("button");
    li.dataset.active = active.has(topic);
    name.textContent = topic;
    name.title = active.has(topic) ? "in effect" : "waiting";
    remove.textContent = "Remove";
    remove.type = "button";
    remove.className = "quiet";
    remove.setAttribute("aria-label", `Unsubscribe from ${topic}`);
    remove.onclick = () => {
      leave(topic);
      $("topic").focus();
    };
    li.append(name, remove);
    return li;
  }));
}

$("subscribe").onsubmit = submitted => {
  submitted.preventDefault();
  const topic = $("topic").value;
  $("refused").textContent = "";
  if (topic && !topics.has(topic)) {
    follow(topic, $("since")?.value.trim());
    remember();
    renderTopics();
  }
  if ($("publish-topic") && !$("publish-topic").value) $("publish-topic").value = topic;
  $("topic").value = "";
};

// ---- events: rows are kept as data, and shown once a frame

// rows are those that are shown, fresh those that are to be; waiting counts the events among these, those too that are too many to be kept.
let rows = [], fresh = [], total = 0, waiting = 0, paused = false, scheduled = false;

function row(kind, topic, key, value, note = "", id = "") {
  const r = { kind, topic, key, value, note, id, at: new Date() };
  if (kind === "event" || kind === "undecodable") {
    total++;
    waiting++;
  }
  fresh.unshift(r);
  fresh.length = Math.min(fresh.length, most);
  if (!scheduled) {
    scheduled = true;
    // A page in the background has no frames.
    document.hidden ? setTimeout(render, 250) : requestAnimationFrame(render);
  }
}

function render() {
  scheduled = false;
  const list = $("events");
  if (!paused) {
    list.prepend(...fresh.filter(matches).map(element));
    rows = [...fresh, ...rows].slice(0, most);
    fresh = [];
    waiting = 0;
    while (list.childElementCount > most) list.lastElementChild.remove();
  }
  $("no-events").hidden = rows.length + fresh.length > 0;
  const found = $("filter").value ? `, ${rows.filter(matches).length} of ${rows.length} lines match` : "";
  $("count").textContent = `${total.toLocaleString("en")} event${total === 1 ? "" : "s"}${found}${waiting ? `, ${waiting.toLocaleString("en")} waiting` : ""}`;
}

// renderAll shows anew what is shown: what waits goes on waiting.
function renderAll() {
  $("events").replaceChildren(...rows.filter(matches).map(element));
  render();
}

function element(r) {
  const li = document.createElement("li"), time = document.createElement("time");
  li.dataset.kind = r.kind;
  time.dateTime = r.at.toISOString();
  time.textContent = r.at.toLocaleTimeString("en-GB") + "." + String(r.at.getMilliseconds()).padStart(3, "0");
  li.append(time, ...["topic", "key", "value"].map(name => {
    const span = document.createElement("span");
    span.className = name + (name === "value" && r.kind === "undecodable" ? " undecodable" : "");
    span.textContent = r[name];
    return span;
  }));
  if (r.kind === "event" || r.kind === "undecodable") li.append(tools(r, li));
  if (r.note) {
    const note = document.createElement("small");
    note.textContent = r.note;
    li.querySelector(".value").append(document.createElement("br"), note);
  }
  return li;
}

const long = 240; // characters of a value that is folded

// tools are what can be done with an event: unfold a long value, copy it, and begin behind it elsewhere.
function tools(r, li) {
  const box = document.createElement("span");
  box.className = "do";
  const button = (text, label, act) => {
    const b = document.createElement("button");
    b.type = "button";
    b.className = "quiet";
    b.textContent = text;
    b.setAttribute("aria-label", label);
    b.onclick = () => act(b);
    box.append(b);
  };
  if (r.value.length > long) {
    li.dataset.folded = true;
    button("Unfold", "Show the whole value", b => {
      li.dataset.folded = li.dataset.folded !== "true";
      b.textContent = li.dataset.folded === "true" ? "Unfold" : "Fold";
    });
  }
  if (r.value) button("Copy", "Copy the value", b => copy(r.value, b));
  if (r.id) button("Id", `Copy the id ${r.id}`, b => copy(r.id, b));
  return box;
}

async function copy(text, button) {
  const was = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => { button.textContent = was; }, 1200);
}

function matches(r) {
  const wanted = $("filter").value.toLowerCase();
  return !wanted || `${r.topic} ${r.key} ${r.value}`.toLowerCase().includes(wanted);
}

function setPaused(on) {
  paused = on;
  $("pause").setAttribute("aria-pressed", on);
  $("pause").firstChild.textContent = on ? "Resume " : "Pause ";
  render();
}

$("filter").oninput = renderAll;
$("pause").onclick = () => setPaused(!paused);
$("clear").onclick = () => { rows = []; fresh = []; total = waiting = 0; renderAll(); };

// ---- publishing

if ($("publish")) $("publish").onsubmit = async submitted => {
  submitted.preventDefault();
  const url = address("notify/" + encodeURIComponent($("publish-topic").value)), key = $("publish-key").value.replace(/\s/g, "");
  if ($("publish-raw").checked) url.searchParams.set("format", "payload");
  else if (key) url.searchParams.set("key", key);
  const said = $("published");
  said.className = "hint";
  said.textContent = "…";
  try {
    const response = await fetch(url, { method: "POST", body: $("publish-value").value, headers: headers() });
    if (!response.ok) throw new Error((await response.json()).message);
    said.textContent = "Published.";
  } catch (error) {
    said.className = "trouble";
    said.textContent = error.message;
  }
};

// ---- keyboard and theme

document.addEventListener("keydown", pressed => {
  const typing = pressed.target.matches("input:not([type=checkbox]), textarea");
  if (typing && pressed.key === "Escape") pressed.target.blur();
  if (typing || pressed.ctrlKey || pressed.metaKey || pressed.altKey) return;
  const act = { "/": () => $("filter").focus(), s: () => $("topic").focus(), p: () => setPaused(!paused) }[pressed.key];
  if (act) {
    pressed.preventDefault();
    act();
  }
});

const themes = ["auto", "light", "dark"];
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = "Theme: " + theme;
  try { localStorage.setItem("pghub-theme", theme); } catch { /* not kept */ }
}
$("theme").onclick = () => setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length]);

let theme = "auto";
try { theme = localStorage.getItem("pghub-theme") ?? theme; } catch { /* not kept */ }
setTheme(themes.includes(theme) ? theme : "auto");
const client = connect(location.href.replace(/#.*/, ""), { token: tokenToTry, parse, onState: stateIs, onAdvisory: advised });
for (const topic of new Set(new URLSearchParams(location.hash.slice(1)).getAll("topic"))) follow(topic);
renderTopics();
