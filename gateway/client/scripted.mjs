// Part of the tests: the client with a gateway and a clock that do what is written here.
//
//	node scripted.mjs CLIENT CASE…     CLIENT is the file of the client
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

// ---- the clock

let now = 0, lastTimer = 0;
const timers = new Map(); // number -> what is to be done, and when
globalThis.setTimeout = (act, after) => (timers.set(++lastTimer, { act, at: now + after }), lastTimer);
globalThis.clearTimeout = number => timers.delete(number);

// pass has a time go by, and what was due in it be done.
async function pass(milliseconds) {
  const end = now + milliseconds;
  for (;;) {
    const [next] = [...timers].filter(([, t]) => t.at <= end).sort(([, a], [, b]) => a.at - b.at);
    if (!next) break;
    now = next[1].at;
    timers.delete(next[0]);
    next[1].act();
    await done();
  }
  now = end;
}

// done waits until the client waits for a message, or for the clock.
const done = () => new Promise(resolve => setImmediate(resolve));

// ---- the gateway

class Socket {
  static last;
  static made = 0;
  readyState = 0;
  sent = [];
  constructor(url, protocols) {
    Socket.last = this;
    Socket.made++;
    this.protocols = protocols;
  }
  send(text) { this.sent.push(JSON.parse(text)); }
  close() { this.readyState = 3; }
  says(message) { this.onmessage({ data: JSON.stringify(message) }); }
  closes(code) {
    this.readyState = 3;
    this.onclose({ code, reason: "" });
  }
  advises(value) { this.says({ topic: null, key: [], value }); }
  // asked returns what the client has sent since it was last looked at.
  asked() { return this.sent.splice(0); }
}

// What the gateway says to who asks why it has opened no WebSocket; null: it cannot be reached.
let problem = null, asked = [];
globalThis.fetch = async (url, { headers }) => {
  asked.push([String(url), headers.Authorization]);
  if (!problem) throw new TypeError("fetch failed");
  const { status, retryAfter, ...body } = problem;
  return new Response(JSON.stringify(body), { status, headers: retryAfter ? { "Retry-After": retryAfter } : {} });
};

async function opened() {
  await done();
  Socket.last.readyState = 1;
  Socket.last.onopen();
  return Socket.last;
}

const tooMany = id => ({ op: "error", id, error: "too_many_operations", message: "later" });

const { connect } = await import(pathToFileURL(process.argv[2]));
const settings = { WebSocket: Socket, minDelay: 10, maxDelay: 10, pingInterval: 100, pingTimeout: 300 };

const cases = {
  // Whatever comes shows that the gateway is there, however long the answer to a ping has to wait behind it.
  async alive() {
    const client = connect("http://gateway/", settings), socket = await opened();
    await pass(100);
    assert.deepEqual(socket.asked(), [{ op: "ping", id: 0 }]);
    for (let i = 0; i < 20; i++) {
      socket.advises({ action: "connect" });
      await pass(50);
      assert.equal(client.state, "open");
    }
    client.close();
  },

  // A ping that is sent before the last one's time has run out does not leave that time behind.
  async twoPings() {
    const client = connect("http://gateway/", settings), socket = await opened();
    await pass(100);
    socket.advises({ action: "connect" });
    await pass(100);
    assert.equal(socket.asked().length, 2);
    for (let i = 0; i < 20; i++) {
      socket.says({ op: "pong", id: 0 });
      await pass(100);
      assert.equal(client.state, "open");
    }
    client.close();
  },

  async silent() {
    const states = [];
    const client = connect("http://gateway/", { ...settings, onState: (state, reason) => states.push(reason ?? state) }), socket = await opened();
    await pass(100 + 299);
    assert.equal(client.state, "open");
    await pass(1);
    assert.deepEqual(states, ["connecting", "open", "no answer"]);
    assert.equal(socket.readyState, 3);
    client.close();
  },

  // A topic that was left while its past was being read, and is subscribed to again, is where all others are.
  async leftBehind() {
    const client = connect("http://gateway/", settings), socket = await opened();
    client.subscribe("other");
    const first = client.subscribe("a", { since: "~epoch.1" });
    socket.says({ op: "subscribed", id: 1, topics: ["other"], since: "~epoch.5" });
    socket.advises({ action: "replay", topics: ["a"] });
    socket.says({ op: "subscribed", id: 2, topics: ["a"], since: "~epoch.1" });
    first.close();
    const second = client.subscribe("a");
    socket.advises({ action: "replay", topics: ["a"] }); // of the first subscription still, as the next ones
    socket.says({ topic: "a", key: [], value: 2, id: "~epoch.2" });
    socket.advises({ action: "lag", topics: ["a"], dropped: 1, reason: null });
    socket.says({ op: "unsubscribed", id: 3, topics: ["a"] });
    socket.says({ op: "subscribed", id: 4, topics: ["a"], since: "~epoch.6" });
    socket.says({ topic: "a", key: [], value: 7, id: "~epoch.7" });
    assert.equal((await second.next()).value.value, 7);
    socket.says({ topic: "other", key: [], value: 8, id: "~epoch.8" });
    client.reconnect();
    assert.deepEqual((await opened()).asked(), [{ op: "subscribe", id: 5, topics: ["other", "a"], since: "~epoch.8" }]);
    client.close();
  },

  // A topic whose unsubscription was refused, or was lost with the connection, has its events again.
  async notLeft() {
    const client = connect("http://gateway/", settings), socket = await opened();
    client.subscribe("a").close();
    const second = client.subscribe("a");
    socket.says(tooMany(2));
    socket.says({ topic: "a", key: [], value: 1 });
    assert.equal((await second.next()).value.value, 1);
    second.close();
    const third = client.subscribe("a");
    client.reconnect();
    const anew = await opened();
    anew.says({ topic: "a", key: [], value: 2 });
    assert.equal((await third.next()).value.value, 2);
    third.close();
    client.reconnect(); // what is left while there is no connection is not waited for
    client.subscribe("a").close();
    const last = client.subscribe("a");
    (await opened()).says({ topic: "a", key: [], value: 3 });
    assert.equal((await last.next()).value.value, 3);
    client.close();
  },

  // An unsubscription that was refused is tried again, for what nobody wants meanwhile.
  async leftLater() {
    const client = connect("http://gateway/", { ...settings, pingInterval: 60_000 }), socket = await opened();
    client.subscribe("a", "b").close();
    socket.asked();
    socket.says(tooMany(2));
    client.subscribe("b");
    assert.deepEqual(socket.asked(), [{ op: "subscribe", id: 3, topics: ["b"] }]);
    await pass(5_000);
    assert.deepEqual(socket.asked(), [{ op: "unsubscribe", id: 4, topics: ["a"] }]);
    socket.says(tooMany(4));
    await pass(5_000);
    assert.deepEqual(socket.asked(), [{ op: "unsubscribe", id: 5, topics: ["a"] }]);
    socket.says({ op: "unsubscribed", id: 5, topics: ["a"] });
    await pass(5_000);
    assert.deepEqual(socket.asked(), []);
    client.subscribe("c").close();
    socket.says(tooMany(7));
    client.reconnect(); // another connection has nothing that is to be left
    const anew = await opened();
    anew.asked();
    await pass(5_000);
    assert.deepEqual(anew.asked(), []);
    client.close();
  },

  // Where an unsubscription was refused, a subscription with a beginning of its own waits for the next one, whatever was answered.
  async leftAndBegun() {
    const begun = { op: "subscribed", topics: ["a"], since: "~e.9" };
    for (const [wanted, answer] of [["a", { ...begun, id: 3 }], ["a", tooMany(3)], ["?", { ...begun, id: 3 }], ["?", tooMany(3)], ["a", null]]) {
      const client = connect("http://gateway/", { ...settings, pingInterval: 60_000 }), socket = await opened();
      client.subscribe("a").close();
      let second = client.subscribe(wanted, { since: "earliest" });
      socket.asked();
      socket.says(tooMany(2));
      if (answer) socket.says(answer);
      else {
        second.close(); // and once more, when it is known
        second = client.subscribe(wanted, { since: "earliest" });
      }
      socket.says({ topic: "a", key: [], value: 9, id: "~e.9" }); // of the first subscription
      socket.advises({ action: "lag", topics: ["a"], dropped: 1 });
      await pass(5_000);
      const asked = socket.asked(), last = asked.at(-1);
      assert.equal(asked.findLast(o => o.op === "unsubscribe").topics[0], "a");
      assert.deepEqual(last, { op: "subscribe", id: last.id, topics: [wanted], since: "earliest" });
      for (const { op, id } of asked) socket.says({ op: op + "d", id, topics: ["a"], since: "~e.9" });
      socket.says({ topic: "a", key: [], value: 1, id: "~e.1" });
      assert.equal((await second.next()).value.value, 1);
      client.close();
    }
  },

  // A topic with a beginning of its own, which the gateway may have by a pattern that was left, is left before it is subscribed to.
  async patternLeftAndBegun() {
    for (const wanted of ["a", "?"]) {
      const client = connect("http://gateway/", settings), socket = await opened();
      client.subscribe("*").close();
      const second = client.subscribe(wanted, { since: "earliest" });
      socket.says({ topic: "a", key: [], value: 9, id: "~e.9" }); // by the pattern
      socket.says({ op: "subscribed", id: 1, topics: ["a", "other"], since: "~e.9" });
      const asked = socket.asked().slice(1);
      assert.deepEqual(asked.map(({ op, topics, since }) => ({ op, topics, since })), [
        { op: "unsubscribe", topics: ["a", "other"], since: undefined }, { op: "subscribe", topics: [wanted], since: "earliest" },
      ]);
      socket.says({ op: "unsubscribed", id: asked[0].id, topics: ["a", "other"] });
      socket.says({ topic: "a", key: [], value: 1, id: "~e.1" });
      assert.equal((await second.next()).value.value, 1);
      client.close();
    }
  },

  // The answer to a pattern that was asked for before that says nothing of it.
  async patternBetween() {
    const client = connect("http://gateway/", settings), socket = await opened();
    client.subscribe("*").close();
    client.subscribe("?");
    client.subscribe("a", { since: "earliest" });
    socket.says({ op: "subscribed", id: 1, topics: ["a", "other"], since: "~e.9" });
    assert.equal(socket.asked().at(-1).since, "earliest");
    socket.says({ op: "subscribed", id: 2, topics: ["a"], since: "~e.9" });
    client.reconnect();
    assert.deepEqual((await opened()).asked().map(o => o.since), ["earliest"]);
    client.close();
  },

  // A pattern that was left before the gateway has said what it stands for takes nothing from another that stands for the same.
  async patternLeft() {
    const client = connect("http://gateway/", settings), socket = await opened();
    client.subscribe("*").close();
    client.subscribe("?");
    socket.asked();
    socket.says({ op: "subscribed", id: 1, topics: ["a", "other"] });
    assert.deepEqual(socket.asked(), [{ op: "unsubscribe", id: 3, topics: ["other"] }]);
    client.close();
  },
};

// due is in how many milliseconds the only thing that waits for the clock is due.
function due() {
  assert.equal(timers.size, 1);
  return [...timers.values()][0].at - now;
}

// found waits until the client has read what the gateway says.
async function found() {
  for (let i = 0; i < 10; i++) await done();
}

// missed has the connection that is being made come to nothing, and returns in how many milliseconds the next is made.
async function missed() {
  await done();
  Socket.last.onerror();
  Socket.last.closes(1006); // not in Node 20
  await found();
  return due();
}

// chance has Math.random return this from now on.
const chance = value => { Math.random = () => value; };

Object.assign(cases, {
  // The time to the next attempt is random, and its bound grows up to another.
  async backoff() {
    chance(0.5);
    const client = connect("http://gateway/", { ...settings, minDelay: 100, maxDelay: 500 }), delays = [];
    for (let i = 0; i < 5; i++) {
      delays.push(await missed());
      await pass(due());
    }
    assert.deepEqual(delays, [50, 100, 200, 250, 250]);
    chance(0);
    assert.equal(await missed(), 0);
    client.close();
  },

  // A gateway that opens and closes at once is not asked again at once for ever. One that has stayed open is.
  async opensAndCloses() {
    chance(0.5);
    const client = connect("http://gateway/", { ...settings, minDelay: 100, maxDelay: 10_000, pingInterval: 100_000 }), delays = [];
    for (const code of [4008, 4029, 4401]) {
      const socket = await opened();
      socket.advises({ action: "connect" });
      await pass(1000);
      socket.closes(code);
      delays.push(due());
      await pass(due());
    }
    assert.deepEqual(delays, [50, 100, 200]);
    const socket = await opened();
    await pass(20_000);
    socket.closes(1006);
    assert.equal(due(), 50);
    client.close();
  },

  // The gateway says why it has opened no WebSocket, and when to come back.
  async refusedForNow() {
    chance(0.5);
    const said = [];
    problem = { status: 503, error: "too_many_clients", message: "too many clients are connected", retryAfter: "3" };
    const client = connect("https://gateway/pg/?a=1", { ...settings, minDelay: 100, token: "secret", onState: (state, reason, error) => said.push([state, reason, error?.code]) });
    const events = client.subscribe("a");
    assert.equal(await missed(), 3005);
    assert.deepEqual(asked, [["https://gateway/pg/ws?a=1", "Bearer secret"]]);
    assert.deepEqual(said.at(-1), ["waiting", "too many clients are connected", "too_many_clients"]);
    await pass(3005);
    problem = { status: 426, error: "upgrade_required", message: "this address is for WebSockets" };
    assert.equal(await missed(), 5);
    assert.deepEqual(said.at(-1), ["waiting", "the server answers, but opens no WebSocket", undefined]);
    await pass(5);
    problem = { status: 403, message: "of somebody else" }; // a proxy, for example
    await missed();
    assert.deepEqual(said.at(-1), ["waiting", "the server answered with status 403", undefined]);
    await pass(5);
    problem = null;
    await missed();
    assert.deepEqual(said.at(-1), ["waiting", "the server cannot be reached", undefined]);
    await pass(5);
    const socket = await opened();
    assert.deepEqual(socket.asked(), [{ op: "subscribe", id: 1, topics: ["a"] }]);
    socket.says({ op: "subscribed", id: 1, topics: ["a"] });
    await events.ready;
    client.close();
  },

  // A refusal that no other token can mend ends what waits for events, until another attempt is wanted.
  async refusedForGood() {
    for (const token of [undefined, "old", () => "old"]) {
      const said = [];
      problem = { status: 401, error: "not_authorized", message: "the token has expired" };
      const client = connect("http://gateway/", { ...settings, token, onState: (state, reason, error) => said.push([state, reason, error?.code]) });
      const first = client.subscribe("a", "b*"), second = client.subscribe("a"), refused = { name: "PghubError", code: "not_authorized", message: "the token has expired" };
      const waits = assert.rejects(second.next(), refused);
      await done();
      Socket.last.onerror();
      await found();
      if (typeof token === "function") await pass(100); // asked for a new one
      assert.deepEqual(said.at(-1), ["refused", "the token has expired", "not_authorized"]);
      assert.equal(client.state, "refused");
      assert.equal(timers.size, 0);
      await assert.rejects(first.ready, refused);
      await assert.rejects(first.next(), refused);
      assert.deepEqual(await first.next(), { done: true, value: undefined });
      await waits;
      await assert.rejects(client.subscribe("c").next(), refused);
      client.reconnect();
      const again = client.subscribe("a");
      const socket = await opened();
      assert.equal(client.state, "open");
      assert.deepEqual(socket.asked(), [{ op: "subscribe", id: 1, topics: ["a"] }]);
      socket.says({ op: "subscribed", id: 1, topics: ["a"] });
      await again.ready;
      client.close();
    }
  },

  // A token function is asked before each attempt, and a token that it gives anew is tried, for as long as it gives another.
  async tokens() {
    let given = 0;
    problem = { status: 401, error: "not_authorized", message: "the token has expired" };
    const client = connect("http://gateway/", { ...settings, token: async () => "token " + ++given });
    const events = client.subscribe("a");
    for (let i = 1; i < 10; i++) {
      await done();
      assert.deepEqual(Socket.last.protocols, ["pghub", "pghub.token.token%20" + i]);
      if (i % 3) await missed();
      else {
        await opened();
        Socket.last.closes(4401);
      }
      await pass(10);
    }
    assert.equal(given, 10);
    (await opened()).says({ op: "subscribed", id: Socket.last.asked()[0].id, topics: ["a"] });
    await events.ready;
    client.close();
  },

  // What is found out of an attempt that is over counts for nothing.
  async overtaken() {
    let answer;
    const before = globalThis.fetch;
    globalThis.fetch = () => new Promise(resolve => { answer = resolve; });
    const said = [], client = connect("http://gateway/", { ...settings, onState: state => said.push(state) });
    await done();
    Socket.last.closes(1006);
    await done();
    client.reconnect();
    await opened();
    answer(new Response(JSON.stringify({ error: "not_authorized", message: "no" }), { status: 401 }));
    await found();
    assert.equal(client.state, "open");
    assert.equal(said.at(-1), "open");
    globalThis.fetch = before;
    client.close();
  },
});

const sub = (id, topics, more) => ({ op: "subscribe", id, topics, ...more });

Object.assign(cases, {
  // The gateway has one filter for each topic: where subscriptions differ it sends all, and each gets its own.
  async filters() {
    const client = connect("http://gateway/", settings), socket = await opened();
    const sold = { where: { status: "sold" } }, asSold = { filter: { key: [], where: { status: "sold" } } };
    const first = client.subscribe("a", { filter: sold });
    assert.deepEqual(socket.asked(), [sub(1, ["a"], asSold)]);
    socket.says({ op: "subscribed", id: 1, topics: ["a"], since: "~e.1" });
    await first.ready;
    client.subscribe("a", { filter: sold });
    assert.deepEqual(socket.asked(), []);
    const second = client.subscribe("a", { filter: { key: [7, 8n] } });
    let ready = false;
    second.ready.then(() => { ready = true; });
    assert.deepEqual(socket.asked(), [sub(2, ["a"])]);
    await done();
    assert.equal(ready, false);
    socket.says({ op: "subscribed", id: 2, topics: ["a"], since: "~e.5" });
    await second.ready;
    const events = [
      { key: [7, 8, 9], value: { status: "open" } }, { key: [7], value: { status: "sold" } }, { key: [], value: "sold" }, { key: [], value: null },
      { key: [], value: { pghub: "gap", reason: "muted" } }, { key: [], value: null, payload: "x", undecodable: "no" }, { key: [7, 8], value: { status: "sold" } },
    ];
    events.forEach((e, i) => socket.says({ topic: "a", id: "~e." + (6 + i), ...e }));
    for (const [subscription, wanted] of [[first, [1, 4, 6]], [second, [0, 4, 6]]]) {
      for (const i of wanted) assert.deepEqual((await subscription.next()).value, { type: "event", topic: "a", id: "~e." + (6 + i), ...events[i] });
    }
    second.close();
    client.reconnect(); // and those that are left have one again
    const anew = await opened();
    assert.deepEqual(anew.asked(), [sub(3, ["a"], { since: "~e.12", ...asSold })]);
    client.close();
  },

  // So it is where a pattern and a name, or two patterns, may stand for the same topic.
  async filtersOfPatterns() {
    const one = { filter: { key: [1] } }, asOne = { filter: { key: ["1"], where: {} } };
    for (const [names, asked] of [
      [[["a*", one]], [sub(1, ["a*"], asOne)]],
      [[["a*", one], ["ab", one]], [sub(1, ["a*"], asOne), sub(2, ["ab"], asOne)]],
      [[["ab", one], ["a*"]], [sub(1, ["ab"], asOne), sub(2, ["a*"])]],
      [[["ab"], ["a*", one]], [sub(1, ["ab"]), sub(2, ["a*"])]],
      [[["a*", one], ["ab"]], [sub(1, ["a*"], asOne), sub(2, ["ab"])]],
      [[["a*", one], ["?b"]], [sub(1, ["a*"], asOne), sub(2, ["?b"])]],
      [[["a*", one], ["x", { filter: { key: [2] } }]], [sub(1, ["a*"], asOne), sub(2, ["x"], { filter: { key: ["2"], where: {} } })]],
    ]) {
      const client = connect("http://gateway/", settings), socket = await opened();
      const all = names.map(args => client.subscribe(...args));
      assert.deepEqual(socket.asked(), asked);
      asked.forEach(({ id, topics: [t] }) => socket.says({ op: "subscribed", id, topics: [t === "x" ? t : "ab"] }));
      for (const { id, topics } of socket.asked()) socket.says({ op: "subscribed", id, topics });
      await Promise.all(all.map(s => s.ready));
      for (const key of asked.some(a => !a.filter) ? [2, 1] : [1]) socket.says({ topic: "ab", key: [key], value: null });
      for (let i = 0; i < all.length; i++) {
        if (names[i][0] === "x") continue;
        assert.deepEqual((await all[i].next()).value.key, [names[i][1] ? 1 : 2], JSON.stringify(names));
      }
      client.close();
    }
  },

  // The same pattern again, with another filter, before the gateway has said what it stands for.
  async filtersOfOnePattern() {
    const client = connect("http://gateway/", settings), socket = await opened();
    const first = client.subscribe("a*", { filter: { key: [1] } }), second = client.subscribe("a*", { filter: { key: [2] } });
    let ready = false;
    second.ready.then(() => { ready = true; });
    assert.equal(socket.asked().length, 2);
    socket.says({ op: "subscribed", id: 1, topics: ["ab"] });
    await done();
    assert.equal(ready, false);
    const [more] = socket.asked();
    assert.deepEqual(more, sub(3, ["ab"]));
    socket.says({ op: "subscribed", id: 2, topics: ["ab"] });
    socket.says({ op: "subscribed", id: 3, topics: ["ab"] });
    await second.ready;
    for (const key of [2, 1]) socket.says({ topic: "ab", key: [key], value: null });
    assert.deepEqual((await first.next()).value.key, [1]);
    assert.deepEqual((await second.next()).value.key, [2]);
    client.close();
  },

  // What is no topic, or no filter, is said where it stands.
  async arguments() {
    const client = connect("http://gateway/", settings);
    await opened();
    const wrong = { name: "TypeError", message: "subscribe: topics are strings, and options come last" };
    assert.throws(() => client.subscribe("a", { since: "1" }, "b"), wrong);
    assert.throws(() => client.subscribe(7, "a"), wrong);
    assert.throws(() => client.subscribe(["a"], {}), wrong);
    assert.throws(() => client.subscribe({}), { name: "PghubError", code: "bad_request" });
    assert.throws(() => client.subscribe(), { name: "PghubError", code: "bad_request" });
    assert.throws(() => client.subscribe("a", { filter: { key: [1.5] } }), { name: "TypeError", message: "filter: key has integers" });
    assert.throws(() => client.subscribe("a", { filter: { where: { status: undefined } } }), { name: "TypeError", message: "filter: status has no value" });
    const events = client.subscribe("a", undefined);
    assert.deepEqual(events.topics, ["a"]);
    client.close();
    assert.throws(() => client.subscribe("a"), { name: "PghubError", code: "closed" });
    await assert.rejects(events.ready, { name: "PghubError", code: "closed" });
    assert.deepEqual(await events.next(), { done: true, value: undefined });
  },

  // Who does not take its events loses the oldest, and is told how many.
  async queue() {
    const client = connect("http://gateway/", { ...settings, maxQueue: 2 }), socket = await opened();
    const events = client.subscribe("a"), large = client.subscribe("a", { maxQueue: 10 });
    socket.says({ op: "subscribed", id: 1, topics: ["a"] });
    for (let i = 1; i <= 5; i++) socket.says({ topic: "a", key: [], value: i });
    const gap = { type: "gap", reason: "queue", dropped: 3, topics: ["a"] };
    assert.deepEqual((await events.next()).value, gap);
    for (const i of [4, 5]) assert.equal((await events.next()).value.value, i);
    for (let i = 1; i <= 5; i++) assert.equal((await large.next()).value.value, i);
    client.close();
  },

  // What the gateway says of itself is told, before the gap that it causes.
  async advisories() {
    const told = [];
    const client = connect("http://gateway/", { ...settings, onAdvisory: a => told.push(a) }), socket = await opened();
    const a = client.subscribe("a"), b = client.subscribe("b");
    for (const [id, topics, stream] of [[1, ["a"]], [2, ["b"], ["b"]]]) socket.says({ op: "subscribed", id, topics, stream });
    const said = [
      { action: "disconnect", final: false }, { action: "reconnect", final: false },
      { action: "lag", dropped: 3, final: false }, { action: "lag", dropped: null, reason: "expired", topics: ["b"], final: false },
    ];
    for (const value of said) socket.advises(value);
    assert.deepEqual(told, said);
    const gap = (reason, topics, dropped = null) => ({ type: "gap", reason, dropped, topics });
    assert.deepEqual((await a.next()).value, gap("database", ["a"])); // a stream has none
    assert.deepEqual((await a.next()).value, gap("lag", ["a"], 3));
    assert.deepEqual((await b.next()).value, gap("lag", ["b"], 3));
    assert.deepEqual((await b.next()).value, gap("expired", ["b"]));
    client.close();
  },
});

for (const name of process.argv.slice(3)) {
  await cases[name]();
  process.stdout.write(name + "\n"); // a case that waits for ever ends Node without it
}
