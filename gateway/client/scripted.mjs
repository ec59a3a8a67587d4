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
  readyState = 0;
  sent = [];
  constructor() { Socket.last = this; }
  send(text) { this.sent.push(JSON.parse(text)); }
  close() { this.readyState = 3; }
  says(message) { this.onmessage({ data: JSON.stringify(message) }); }
  advises(value) { this.says({ topic: null, key: [], value }); }
  // asked returns what the client has sent since it was last looked at.
  asked() { return this.sent.splice(0); }
}

async function opened() {
  await done();
  Socket.last.readyState = 1;
  Socket.last.onopen();
  return Socket.last;
}

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
    socket.says({ op: "error", id: 2, error: "too_many_operations", message: "later" });
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

for (const name of process.argv.slice(3)) {
  await cases[name]();
  process.stdout.write(name + "\n"); // a case that waits for ever ends Node without it
}
