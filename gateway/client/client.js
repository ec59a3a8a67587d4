// @pghub/client: events of PostgreSQL from a pghub gateway. One WebSocket for all topics, which comes back by itself and goes on
// where it was. The types, and what each part does, are in client.d.ts.

/** Opens a connection to a gateway. */
export function connect(url, options) {
  return new Client(url, options);
}

/** Names a topic with *, ? or [ in its name, which would be a pattern otherwise. */
export function literal(topic) {
  return topic.replace(/[*?[]/g, "\\$&");
}

export class PghubError extends Error {
  constructor(code, message, topic) {
    super(message);
    this.name = "PghubError";
    this.code = code;
    this.topic = topic;
  }
}

// What another time may help against.
const passing = new Set(["not_connected", "too_many_clients", "too_many_topics_total", "too_many_topics_from_address", "too_many_operations", "shutting_down", "internal"]);

const defaults = { minDelay: 250, maxDelay: 10_000, pingInterval: 25_000, pingTimeout: 10_000, maxQueue: 10_000, parse: JSON.parse };

// How long a connection has to hold until the next attempt after it is a first one again: a gateway may open and close at once.
const steadyAfter = 5000;

// What a server may have a client wait.
const longest = 3_600_000;

export class Client {
  #url; #options;
  #socket = null; #open = false; #closed = false;
  #retry; #attempts = 0; #attempt; #steady;
  #denied = null; // the token that was refused last, and the error
  #refusal = null; // the error that is final
  #ping; #pong;
  #lastID = 0;
  #asked = new Map(); // id of an operation -> what was asked for
  #topics = new Map(); // name -> its topic
  #patterns = new Map(); // pattern -> a topic in the place of those that it stands for, until the gateway has named them
  #behind = new Set(); // names of topics whose events come from the past just now
  #leaving = new Map(); // name -> id of its unsubscription: what comes until that is answered is of a subscription that has ended
  #unleft = new Set(); // names whose unsubscription was refused: it is tried again

  constructor(url, options = {}) {
    const base = new URL(url, globalThis.location?.href);
    this.#url = new URL("ws" + base.search, base);
    this.#url.protocol = this.#url.protocol.replace(/^http/, "ws");
    this.#options = { ...defaults, ...options };
    this.#connect();
  }

  /** "connecting", "open", "waiting", "refused" or "closed". */
  state = "connecting";

  subscribe(...topics) {
    const options = typeof topics.at(-1) === "string" ? {} : topics.pop() ?? {};
    if (this.#closed) throw new PghubError("closed", "the client is closed");
    if (!topics.length) throw new PghubError("bad_request", "name a topic");
    if (topics.some(text => typeof text !== "string")) throw new TypeError("subscribe: topics are strings, and options come last");
    const subscription = new Subscription(options.maxQueue ?? this.#options.maxQueue, () => this.#leave(subscription), new Filter(options.filter));
    if (this.#refusal) {
      subscription._fail(this.#refusal);
      return subscription;
    }
    const fresh = [];
    for (const text of topics) {
      const [among, name] = isPattern(text) ? [this.#patterns, text] : [this.#topics, text.replace(/\\([*?[])/g, "$1")];
      const isNew = !among.has(name), topic = isNew ? this.#begin(among, name, options.since ?? "") : among.get(name);
      topic.subscriptions.add(subscription);
      subscription._has(topic);
      if (isNew || this.#open && this.#wantsMore(topic)) fresh.push(topic);
    }
    if (this.#open) this.#ask(fresh);
    subscription._begun(); // if all have
    return subscription;
  }

  // cursor: how far it has come. live: it is in effect, and nothing of the past is on its way. unkept: it was to begin in the past, of
  // which this gateway keeps nothing. waits: it is to begin somewhere, but the gateway may have it still, and would go on with that.
  // here: this connection has it. filter: what it was last asked for with.
  #begin(among, name, cursor) {
    const topic = { name, cursor, begun: false, live: false, waits: false, here: false, subscriptions: new Set() };
    if (among === this.#patterns) topic.matches = glob(name);
    among.set(name, topic);
    return topic;
  }

  #isWanted(topic) {
    return (topic.matches ? this.#patterns : this.#topics).get(topic.name) === topic;
  }

  /** Connects at once, instead of waiting, or anew: with another token, for example. */
  reconnect() {
    if (this.#closed) return;
    const socket = this.#socket;
    this.#lost("connecting anew");
    clearTimeout(this.#retry);
    this.#attempts = 0;
    this.#denied = this.#refusal = null;
    socket?.close(1000);
    this.#connect();
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopTimers();
    this.#attempt?.abort();
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
    for (const topic of [...this.#topics.values(), ...this.#patterns.values()]) for (const s of [...topic.subscriptions]) s.close();
    this.#say("closed");
  }

  #say(state, reason, error) {
    this.state = state;
    this.#options.onState?.(state, reason, error);
  }

  #stopTimers() {
    clearTimeout(this.#retry);
    clearTimeout(this.#steady);
    clearTimeout(this.#ping);
    clearTimeout(this.#pong);
  }

  // ---- the connection

  async #connect() {
    this.#attempt?.abort();
    const attempt = this.#attempt = new AbortController(); // that of reconnect may be made while a token is waited for
    this.#say("connecting");
    let socket, token;
    try {
      token = typeof this.#options.token === "function" ? await this.#options.token() : this.#options.token;
      if (this.#closed || attempt !== this.#attempt) return;
      if (this.#denied && this.#denied.token === token) return this.#refuse(this.#denied.error); // there is no other
      const WebSocket = this.#options.WebSocket ?? globalThis.WebSocket;
      socket = new WebSocket(this.#url, token ? ["pghub", "pghub.token." + escaped(token)] : ["pghub"]);
    } catch (error) {
      if (attempt === this.#attempt) this.#lost(error.message);
      return;
    }
    this.#socket = socket;
    socket.onopen = () => {
      if (socket !== this.#socket) return;
      this.#open = true;
      this.#denied = null;
      this.#steady = setTimeout(() => { this.#attempts = 0; }, steadyAfter);
      this.#say("open");
      this.#watch();
      // What a pattern has already been found to stand for goes on where it is: the pattern begins only what is new.
      this.#ask([...this.#topics.values(), ...this.#patterns.values()]);
    };
    socket.onmessage = message => {
      if (socket !== this.#socket) return;
      this.#received(message.data);
    };
    socket.onclose = closed => {
      if (socket !== this.#socket) return;
      if (this.#open) this.#lost(closed.reason || `closed with code ${closed.code}`);
      else this.#askWhy(attempt, token);
    };
    socket.onerror = () => {
      // onclose follows, but not in Node 20, where a WebSocket has not opened.
      if (socket === this.#socket && !this.#open) this.#askWhy(attempt, token);
    };
  }

  // askWhy finds out why the gateway has opened no WebSocket: the platform does not say.
  async #askWhy(attempt, token) {
    this.#socket = null;
    const url = new URL(this.#url), limit = setTimeout(() => attempt.abort(), this.#options.pingTimeout);
    url.protocol = url.protocol.replace("ws", "http");
    let reason = "the server cannot be reached", error, status, after;
    try {
      const response = await fetch(url, {
        headers: token ? { Authorization: "Bearer " + token } : {}, credentials: token ? "same-origin" : "include", cache: "no-store", signal: attempt.signal,
      });
      status = response.status;
      after = 1000 * response.headers.get("Retry-After");
      reason = status === 426 ? "the server answers, but opens no WebSocket" : `the server answered with status ${status}`;
      const { error: code, message } = await response.json();
      if (code && status !== 426) error = new PghubError(code, reason = message);
    } catch { /* it is as it is */ }
    clearTimeout(limit);
    if (this.#closed || attempt !== this.#attempt) return;
    if (error && (status === 401 || status === 403)) {
      // Another token may mend it.
      if (error.code !== "not_authorized" || typeof this.#options.token !== "function") return this.#refuse(error);
      this.#denied = { token, error };
    }
    this.#lost(reason, error, after);
  }

  // refuse ends all that waits for events. Another attempt is made by reconnect.
  #refuse(error) {
    this.#stopTimers();
    this.#refusal = error;
    for (const topic of [...this.#topics.values(), ...this.#patterns.values()]) for (const s of [...topic.subscriptions]) s._fail(error);
    this.#say("refused", error.message, error);
  }

  // lost has the next attempt be made, at the earliest after so many milliseconds.
  #lost(reason, error, after) {
    if (this.#closed) return;
    this.#stopTimers();
    this.#socket = null;
    this.#open = false;
    this.#asked.clear();
    this.#behind.clear();
    this.#leaving.clear();
    this.#unleft.clear();
    for (const topic of this.#topics.values()) topic.live = topic.here = false;
    this.#say("waiting", reason, error);
    // Full jitter: clients that were cut off together do not come back together.
    const most = Math.min(this.#options.maxDelay, this.#options.minDelay * 2 ** this.#attempts++);
    this.#retry = setTimeout(() => this.#connect(), Math.min(after || 0, longest) + Math.random() * most);
  }

  // watch finds out whether the other side is still there: a browser does not. Each message shows it, also one that comes before the
  // answer to a ping.
  #watch() {
    clearTimeout(this.#ping);
    clearTimeout(this.#pong);
    this.#ping = setTimeout(() => {
      this.#send({ op: "ping", id: 0 });
      this.#pong = setTimeout(() => {
        const socket = this.#socket;
        this.#lost("no answer");
        socket?.close();
      }, this.#options.pingTimeout);
    }, this.#options.pingInterval);
  }

  // later does something in a while, if the connection is the same then.
  #later(act) {
    const socket = this.#socket;
    setTimeout(() => { if (socket === this.#socket) act(); }, this.#options.minDelay + Math.random() * 1000);
  }

  #send(operation, filter) {
    let text = JSON.stringify(operation);
    if (filter) text = `${text.slice(0, -1)},"filter":${filter}}`; // as it is: numbers may have more digits than JavaScript's
    if (this.#socket?.readyState === 1) this.#socket.send(text);
  }

  // ---- operations

  // ask subscribes to topics, those that go on at the same place together. A pattern is asked for alone: the answer says what it stands for.
  #ask(topics) {
    const groups = new Map();
    for (const t of topics) {
      if (!this.#isWanted(t)) continue;
      t.waits = t.cursor !== "" && !t.begun && this.#mayHave();
      if (t.waits) continue;
      t.filter = this.#filterOf(t);
      if (t.begun) for (const s of t.subscriptions) s._waits(t);
      const group = t.matches ? t : JSON.stringify([t.here, t.cursor, t.filter]);
      groups.set(group, [...(groups.get(group) ?? []), t]);
    }
    for (const group of groups.values()) {
      const id = ++this.#lastID, [{ here, cursor, filter }] = group;
      this.#asked.set(id, group);
      for (const t of group) t.lastAsked = id;
      this.#send({ op: "subscribe", id, topics: group.map(t => t.matches ? t.name : literal(t.name)), since: !here && cursor || undefined }, filter);
    }
  }

  #askWaiting() {
    this.#ask([...this.#topics.values(), ...this.#patterns.values()].filter(t => t.waits));
  }

  // mayHave says whether the gateway may have topics that it ought not to: by a pattern that was left before it was answered, by
  // a refused unsubscription, or by a subscription that came behind one.
  #mayHave() {
    return this.#unleft.size > 0 || [...this.#asked.values()].some(asked => asked.some(t => this.#isWanted(t) ? t.waits : t.matches));
  }

  // filterOf is what the gateway is to send of a topic, or of a pattern: it has one filter for each topic. Where subscriptions differ
  // it sends all, and each picks its own.
  #filterOf(t) {
    const texts = new Set();
    const add = other => { for (const s of other.subscriptions) texts.add(s._filter.text); };
    add(t);
    for (const p of this.#patterns.values()) if (t.matches || p.matches.test(t.name)) add(p);
    if (t.matches) for (const other of this.#topics.values()) if (t.matches.test(other.name)) add(other);
    return texts.size === 1 ? [...texts][0] : "";
  }

  #wantsMore(t) {
    return t.filter !== "" && t.filter !== this.#filterOf(t);
  }

  #leave(subscription) {
    const gone = [];
    for (const among of [this.#topics, this.#patterns]) {
      for (const topic of [...among.values()]) {
        if (!topic.subscriptions.delete(subscription) || topic.subscriptions.size) continue;
        among.delete(topic.name);
        if (!topic.matches) gone.push(topic.name); // what a pattern stands for is left when it is known
      }
    }
    this.#unsubscribe(gone);
  }

  #unsubscribe(names) {
    if (!names.length || !this.#open) return;
    const id = ++this.#lastID;
    for (const name of names) {
      this.#leaving.set(name, id);
      this.#unleft.delete(name);
      this.#behind.delete(name);
    }
    this.#send({ op: "unsubscribe", id, topics: names.map(literal) });
  }

  // leaveLater tries an unsubscription again. What is to begin somewhere begins behind it, also where it was asked for already.
  #leaveLater(names) {
    for (const name of names) {
      this.#unleft.add(name);
      for (const t of [...this.#topics.values(), ...this.#patterns.values()]) {
        if ((t.matches ? t.matches.test(name) : t.name === name) && t.cursor && !t.begun) t.waits = true;
      }
    }
    this.#later(() => {
      const unwanted = [...this.#unleft].filter(name => !this.#topicOf(name));
      this.#unleft.clear();
      this.#unsubscribe(unwanted);
      this.#askWaiting();
    });
  }

  // topicOf is the topic of that name, one that a pattern has been asked for too.
  #topicOf(name) {
    for (const pattern of this.#patterns.values()) if (!pattern.waits && pattern.matches.test(name)) this.#expand(pattern, name);
    const topic = this.#topics.get(name);
    return topic?.waits ? undefined : topic;
  }

  #expand(pattern, name) {
    const known = this.#topics.get(name), topic = known ?? this.#begin(this.#topics, name, pattern.cursor);
    if (!known) topic.foundBy = pattern;
    for (const s of pattern.subscriptions) {
      topic.subscriptions.add(s);
      s._has(topic);
    }
    if (!known && pattern.unkept) this.#gap([name], "unknown", null);
    return topic;
  }

  // settle has the topics that a pattern stands for take its place.
  #settle(pattern, names, id) {
    if (!this.#isWanted(pattern) || pattern.waits) { // left meanwhile, or asked for too early
      this.#unsubscribe(names.filter(name => !this.#topicOf(name)));
      return [];
    }
    const topics = names.map(name => this.#expand(pattern, name));
    for (const topic of topics) if (!(topic.lastAsked > id)) topic.filter = pattern.filter;
    // What has come to be wanted since the pattern was asked for.
    this.#ask(topics.filter(t => pattern.lastAsked > id || this.#wantsMore(t)));
    this.#patterns.delete(pattern.name);
    for (const topic of [...this.#topics.values()]) { // one whose last event came although it was left before
      if (topic.foundBy !== pattern || names.includes(topic.name)) continue;
      for (const s of pattern.subscriptions) {
        topic.subscriptions.delete(s);
        s._hasNot(topic);
      }
      if (topic.subscriptions.size) this.#ask([topic]);
      else this.#topics.delete(topic.name);
    }
    for (const s of pattern.subscriptions) s._hasNot(pattern);
    return topics;
  }

  #answered(m) {
    const left = [...this.#leaving].filter(([, id]) => id === m.id).map(([name]) => name);
    for (const name of left) this.#leaving.delete(name);
    if (left.length && passing.has(m.error)) this.#leaveLater(left);
    const asked = this.#asked.get(m.id);
    this.#asked.delete(m.id);
    if (asked) this.#subscribed(m, asked);
    this.#askWaiting();
  }

  #subscribed(m, asked) {
    let topics = asked.filter(t => this.#isWanted(t) && !t.waits);
    if (m.op === "subscribed") {
      if (asked[0].matches) topics = this.#settle(asked[0], m.topics, m.id);
      for (const topic of topics) {
        if (this.#leaving.has(topic.name)) continue; // it was asked for once more behind that
        if (!(topic.lastAsked > m.id)) for (const s of topic.subscriptions) s._begun(topic);
        if (topic.here) continue; // with another filter
        topic.here = true;
        topic.end = m.since;
        this.#goLive(topic, !this.#behind.has(topic.name));
        if (!m.since && topic.begun) this.#gap([topic.name], "disconnect", null); // nothing is kept
        if (m.since) topic.cursor = completed(topic.cursor, m.since);
        topic.begun = true;
        topic.ofStream = m.stream?.includes(topic.name);
      }
    } else if (m.op === "error") {
      if (m.error === "no_history") {
        // A topic of before has its gap when it is subscribed to, and a pattern's topics have it when they are known.
        this.#gap(topics.filter(t => !t.begun && !t.matches).map(t => t.name), "unknown", null);
        for (const topic of topics) {
          topic.cursor = "";
          topic.unkept = true;
        }
        return this.#ask(topics);
      }
      if (passing.has(m.error)) {
        return this.#later(() => this.#ask(topics));
      }
      const error = new PghubError(m.error, m.message, m.topic);
      let refused = topics.filter(t => t.name === m.topic);
      if (!refused.length) refused = topics;
      for (const topic of refused) {
        (topic.matches ? this.#patterns : this.#topics).delete(topic.name);
        for (const s of topic.subscriptions) s._fail(error);
      }
      this.#unsubscribe(refused.filter(t => t.here).map(t => t.name));
      this.#ask(topics.filter(t => !refused.includes(t)));
    }
  }

  // ---- events

  #received(text) {
    this.#watch();
    const m = this.#options.parse(text);
    if (m.op) return this.#answered(m);
    if (m.topic === null) return this.#advised(m.value, m.id);
    if (this.#leaving.has(m.topic)) return;
    const topic = this.#topicOf(m.topic);
    if (!topic) return;
    if (m.id) {
      topic.cursor = moved(topic.cursor, m.id);
      // All live topics have come as far.
      if (topic.live) for (const other of this.#topics.values()) if (other.live) other.cursor = moved(other.cursor, m.id);
    }
    for (const s of topic.subscriptions) if (s._filter.text === topic.filter || s._filter.passes(m)) s._push({ type: "event", ...m });
  }

  #advised(a, id) {
    this.#options.onAdvisory?.(a);
    const topics = a.topics?.filter(name => !this.#leaving.has(name));
    switch (a.action) {
      case "replay":
        for (const name of topics) {
          this.#behind.add(name);
          const topic = this.#topicOf(name);
          if (topic) topic.live = false;
        }
        break;
      case "live":
        for (const name of topics) {
          this.#behind.delete(name);
          const topic = this.#topics.get(name);
          if (topic?.begun) this.#goLive(topic, true); // else when it is answered
        }
        break;
      case "lag":
        if (id) this.#passed(topics, id);
        this.#gap(topics ?? [...this.#topics.keys()], a.reason ?? "lag", a.dropped, id);
        break;
      case "reconnect": // of the gateway to the database: what is kept by a stream has no gap
        this.#gap([...this.#topics.values()].filter(t => !t.ofStream).map(t => t.name), "database", null);
        break;
    }
  }

  #goLive(topic, live) {
    topic.live = live;
    if (live && topic.end && !isID(topic.cursor)) topic.cursor = topic.end; // it has had what there was since a time, or the beginning
  }

  // passed has topics go on behind a gap: it is told once, although no event may come before the next connection.
  #passed(names, id) {
    for (const name of names) {
      const topic = this.#topicOf(name);
      if (topic) topic.cursor = moved(topic.cursor, id);
    }
  }

  #gap(topics, reason, dropped, id) {
    const told = new Set();
    for (const name of topics) for (const s of this.#topicOf(name)?.subscriptions ?? []) told.add(s);
    for (const s of told) s._push({ type: "gap", reason, dropped: dropped ?? null, topics: topics.filter(t => s.topics.includes(t)), ...(id && { id }) });
  }
}

export class Subscription {
  #waiting = []; #taker = null; #error = null; #ended = false; #leave; #most; #pending = new Set(); #ready; #refused;

  constructor(most, leave, filter) {
    this._filter = filter; // of the client
    this.topics = [];
    this.ready = new Promise((resolve, reject) => { this.#ready = resolve; this.#refused = reject; });
    this.ready.catch(() => {}); // the loop throws, too
    this.#most = most;
    this.#leave = leave;
  }

  close() {
    if (this.#ended) return;
    this.#ended = true;
    this.#waiting = [];
    this.#refused(new PghubError("closed", "the subscription is closed"));
    this.#leave();
    this.#taker?.resolve({ done: true, value: undefined });
    this.#taker = null;
  }

  next() {
    if (this.#waiting.length) return Promise.resolve({ done: false, value: this.#waiting.shift() });
    if (this.#error) {
      const error = this.#error;
      this.#error = null;
      this.#ended = true;
      return Promise.reject(error);
    }
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => { this.#taker = { resolve, reject }; });
  }

  return() {
    this.close();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator]() { return this; }

  // Of the client.
  _push(event) {
    if (this.#ended || this.#error) return;
    if (this.#taker) {
      const taker = this.#taker;
      this.#taker = null;
      return taker.resolve({ done: false, value: event });
    }
    this.#waiting.push(event);
    if (this.#waiting.length > this.#most) {
      // The oldest event gives way to a gap in its place.
      const gap = this.#waiting[0].type === "gap" && this.#waiting[0].reason === "queue" ? this.#waiting.shift() : { type: "gap", reason: "queue", dropped: 0, topics: this.topics };
      const lost = this.#waiting.shift();
      this.#waiting.unshift({ ...gap, dropped: gap.dropped + (lost.type === "event" ? 1 : 0) });
    }
  }

  // Of the client.
  _has(topic) {
    if (!this.topics.includes(topic.name)) this.topics = [...this.topics, topic.name];
    if (!topic.begun) this.#pending.add(topic);
  }

  // Of the client.
  _waits(topic) {
    this.#pending.add(topic);
  }

  // Of the client.
  _hasNot(pattern) {
    this.topics = this.topics.filter(name => name !== pattern.name);
    this._begun(pattern);
  }

  // Of the client.
  _begun(topic) {
    this.#pending.delete(topic);
    if (!this.#pending.size) this.#ready();
  }

  // Of the client.
  _fail(error) {
    if (this.#ended) return;
    this.#refused(error);
    this.#error = error;
    this.#leave();
    if (this.#taker) {
      const taker = this.#taker;
      this.#taker = null;
      this.#ended = true;
      this.#error = null;
      taker.reject(error);
    }
  }
}

// Filter is which events of its topics a subscription wants. text is what the gateway is told: "" for all.
class Filter {
  #key; #where;

  constructor({ key = [], where = {} } = {}) {
    this.#key = key.map(String);
    this.#where = Object.entries(where).map(([name, value]) => [name, JSON.stringify(value)]);
    if (!this.#key.every(k => /^-?\d+$/.test(k))) throw new TypeError("filter: key has integers");
    for (const [name, value] of this.#where) if (value === undefined) throw new TypeError(`filter: ${name} has no value`);
    const fields = this.#where.map(([name, value]) => JSON.stringify(name) + ":" + value);
    this.text = this.#key.length + fields.length ? `{"key":${JSON.stringify(this.#key)},"where":{${fields}}}` : "";
  }

  // passes does what the gateway does, to what parse has read.
  passes({ key, value, undecodable }) {
    if (!this.text) return true;
    if (undecodable !== undefined) return false;
    const isObject = typeof value === "object" && value !== null;
    if (!key.length && isObject && value.pghub === "gap" && Object.keys(value)[0] === "pghub") return true; // announced by a publisher
    return this.#key.every((k, i) => i < key.length && (typeof key[i] === "number" ? key[i] === Number(k) : String(key[i].rawJSON ?? key[i]) === k)) &&
      this.#where.every(([name, wanted]) => isObject && Object.hasOwn(value, name) && JSON.stringify(value[name]) === wanted);
  }
}

// A cursor is a position of the stream, or ~ and a number of the gateway's memory, or both. moved replaces its part.
function moved(cursor, id) {
  if (!isID(cursor)) return id;
  const { stream, memory } = parts(cursor);
  return id.startsWith("~") ? stream + id : id + memory;
}

// completed is a cursor with what it lacks of that of an answer.
function completed(cursor, since) {
  if (!isID(cursor)) return cursor;
  const had = parts(cursor), now = parts(since);
  return (had.stream || now.stream) + (had.memory || now.memory);
}

function parts(cursor) {
  const [, stream, memory] = /^([^~]*)(.*)$/.exec(cursor);
  return { stream, memory };
}

// A time, or "earliest", is none.
const isID = cursor => /^[\d.]*(~|$)/.test(cursor);

const isPattern = topic => /[*?[]/.test(topic.replace(/\\[*?[]/g, ""));

// glob matches what the gateway's patterns do.
function glob(pattern) {
  const text = pattern.replace(/\\[*?[]|\[[^\]]+\]|[*?.+^${}()|[\\\]/]/g, part => {
    if (part === "*") return ".*";
    if (part === "?") return ".";
    if (part.length === 1) return "\\" + part;
    return part; // of several characters, or escaped
  });
  try {
    return new RegExp(`^${text}$`, "su");
  } catch {
    return /(?!)/; // nothing: the gateway refuses it
  }
}

// All that is no character of a subprotocol is percent-encoded.
const escaped = token => encodeURIComponent(token).replace(/[()]/g, c => "%" + c.charCodeAt(0).toString(16));
