// The viewer: one WebSocket on ws, the topics of the address (#topic=a&topic=b), and a list of what arrived.

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

const topics = new Map(); // name -> in effect
let socket, retry, attempts = 0, number = 0, lost = false;
const asked = new Map(); // id of an operation -> topic
const begins = new Map(); // topic -> the id behind which it goes on

function setState(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
}

function address(path) {
  return new URL(path + location.search, location.href.replace(/#.*/, ""));
}

// The token is kept for this tab, and taken out of the address: that is copied, kept in histories and sent to others.
const tokenKey = "pghub-token " + location.pathname;
let token = null;
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
// All that is no character of a subprotocol is percent-encoded.
const subprotocols = () => token ? ["pghub", "pghub.token." + encodeURIComponent(token).replace(/[()]/g, c => "%" + c.charCodeAt(0).toString(16))] : [];

function say(why, askForToken) {
  $("why").textContent = why;
  const asked = !$("access").hidden;
  $("access").hidden = !askForToken;
  if (askForToken && !asked) $("token").focus();
}

// whyNot finds out why there is no connection: a WebSocket does not say.
async function whyNot(closed) {
  if (closed.code === 4401) return say(closed.reason, true);
  try {
    const response = await fetch(address("stats"), { headers: headers(), cache: "no-store" });
    if (response.ok) return say(closed.reason || "the server takes no more clients at the moment", false);
    const problem = await response.json();
    say(problem.message, response.status === 401);
  } catch {
    say("the server cannot be reached", false);
  }
}

$("access").onsubmit = submitted => {
  submitted.preventDefault();
  setToken($("token").value);
  $("token").value = "";
  clearTimeout(retry);
  connect();
};

function connect() {
  if (socket) socket.onclose = null; // the next one takes its place
  socket?.close();
  setState("connecting", "connecting");
  const url = address("ws");
  url.protocol = url.protocol.replace("http", "ws");
  socket = new WebSocket(url, subprotocols());
  socket.onopen = () => {
    attempts = 0;
    setState("connected", "connected");
    say("", false);
    if (lost) row("gap", "gateway", "", $("since") ? "connected again" : "connected again: events may be missing before this line");
    lost = false;
    for (const topic of topics.keys()) ask("subscribe", topic);
  };
  socket.onmessage = message => received(parse(message.data));
  socket.onclose = closed => {
    for (const topic of topics.keys()) topics.set(topic, false);
    asked.clear();
    renderTopics();
    setState("offline", "offline");
    whyNot(closed);
    if (!lost) row("gap", "gateway", "", `connection lost (${closed.code}${closed.reason ? ": " + closed.reason : ""})`);
    lost = true;
    const wait = Math.random() * Math.min(10_000, 250 * 2 ** attempts++) + 100;
    retry = setTimeout(connect, wait);
  };
}

function ask(op, topic) {
  if (socket?.readyState !== WebSocket.OPEN) return;
  asked.set(++number, topic);
  socket.send(JSON.stringify({ op, id: number, topics: [topic], since: op === "subscribe" && begins.get(topic) || undefined }));
}

function received(m) {
  if (m.op) return answered(m);
  if (m.topic !== null) {
    const undecodable = "undecodable" in m;
    if (m.id) begins.set(m.topic, m.id);
    row(undecodable ? "undecodable" : "event", m.topic, m.key.map(k => k.rawJSON ?? String(k)).join(","),
      undecodable ? m.payload : m.value === null ? "" : show(m.value), undecodable ? `a plain NOTIFY, shown as it came: ${m.undecodable}` : "", m.id);
    return;
  }
  const a = m.value;
  switch (a.action) {
    case "disconnect": setState("waiting", "database away"); break;
    case "reconnect": case "connect": setState("connected", "connected"); break;
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

function answered(m) {
  const topic = asked.get(m.id);
  asked.delete(m.id);
  if (m.op === "subscribed" && topics.has(topic)) {
    if (m.topics.length !== 1 || m.topics[0] !== topic) { // a pattern, and what it stands for
      topics.delete(topic);
      for (const name of m.topics) topics.set(name, true);
      remember();
    } else topics.set(topic, true);
    for (const name of m.topics) if (m.since && !begins.has(name)) begins.set(name, m.since);
  }
  if (m.op === "error") {
    topics.delete(topic);
    begins.delete(topic);
    remember();
    $("refused").textContent = `${topic ?? "Request"}: ${m.message}`;
  }
  renderTopics();
}

// ---- subscriptions

function remember() {
  const query = new URLSearchParams([...topics.keys()].map(t => ["topic", t]));
  history.replaceState(null, "", location.pathname + location.search + (topics.size ? "#" + query : ""));
}

function renderTopics() {
  $("no-topics").hidden = topics.size > 0;
  $("topics").replaceChildren(...[...topics].map(([topic, active]) => {
    const li = document.createElement("li"), name = document.createElement("span"), remove = document.createElement("button");
    li.dataset.active = active;
    name.textContent = topic;
    name.title = active ? "in effect" : "waiting";
    remove.textContent = "Remove";
    remove.type = "button";
    remove.className = "quiet";
    remove.setAttribute("aria-label", `Unsubscribe from ${topic}`);
    remove.onclick = () => {
      topics.delete(topic);
      begins.delete(topic);
      ask("unsubscribe", topic);
      remember();
      renderTopics();
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
    topics.set(topic, false);
    if ($("since")?.value) begins.set(topic, $("since").value.trim());
    ask("subscribe", topic);
    remember();
    renderTopics();
  }
  if ($("publish-topic") && !$("publish-topic").value) $("publish-topic").value = topic;
  $("topic").value = "";
};

// ---- events: rows are kept as data, and shown once a frame

let rows = [], fresh = [], total = 0, paused = false, scheduled = false;

function row(kind, topic, key, value, note = "", id = "") {
  const r = { kind, topic, key, value, note, id, at: new Date() };
  if (kind === "event" || kind === "undecodable") total++;
  rows.unshift(r);
  rows.length = Math.min(rows.length, most);
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
    fresh = [];
    while (list.childElementCount > most) list.lastElementChild.remove();
  }
  $("no-events").hidden = rows.length > 0;
  const waiting = fresh.length ? `, ${fresh.length} waiting` : "";
  const found = $("filter").value ? `, ${rows.filter(matches).length} of ${rows.length} lines match` : "";
  $("count").textContent = `${total.toLocaleString("en")} event${total === 1 ? "" : "s"}${found}${waiting}`;
}

function renderAll() {
  $("events").replaceChildren();
  fresh = rows.slice();
  const was = paused;
  paused = false;
  render();
  paused = was;
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
$("clear").onclick = () => { rows = []; fresh = []; total = 0; renderAll(); };

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
for (const topic of new URLSearchParams(location.hash.slice(1)).getAll("topic")) topics.set(topic, false);
renderTopics();
connect();
