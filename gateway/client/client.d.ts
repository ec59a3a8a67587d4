/** An event of a topic. */
export interface PghubEvent<V = unknown> {
  type: "event";
  topic: string;
  /** Integers beyond 2^53 lose digits with JSON.parse: see {@link Options.parse}. */
  key: number[];
  value: V;
  /** How far one has come with it: for `since`. Missing where the gateway keeps nothing of the topic. */
  id?: string;
  /** Why the payload is none of pghub, and what it was. */
  undecodable?: string;
  payload?: string;
}

/** Events may be, or are, missing at this place: fetch again what you keep. */
export interface PghubGap {
  type: "gap";
  /**
   * disconnect: this connection was lost, and the gateway keeps nothing of these topics · database: the gateway's was · lag: this client was
   * too slow · queue: the loop that takes the events was · expired, foreign, history, unknown: what was missed, or asked for, is not kept.
   */
  reason: "disconnect" | "database" | "lag" | "queue" | "expired" | "foreign" | "history" | "unknown";
  /** How many events, if that is known. */
  dropped: number | null;
  topics: string[];
  /** Where it ends, for `since`, as with an event: who goes on there does not have it again. Missing where the gateway keeps nothing of these topics. */
  id?: string;
}

/** What the gateway says of itself and of its events. */
export interface PghubAdvisory {
  action: "connect" | "disconnect" | "reconnect" | "subscribe" | "lag" | "replay" | "live" | "close" | "stop";
  topic?: string;
  topics?: string[];
  dropped?: number | null;
  reason?: string;
  final: boolean;
}

/**
 * waiting: for the next attempt to connect · refused: the gateway does not let this client in (401, 403), and another attempt would not help; subscriptions
 * have failed, and new ones do. {@link Client.reconnect} makes another attempt.
 */
export type State = "connecting" | "open" | "waiting" | "refused" | "closed";

export interface Options {
  /**
   * Shown to the gateway. A function is asked before each attempt to connect: where a token is refused the next one is tried. The client is refused when
   * it gives the same one again. One that rejects is asked again later.
   */
  token?: string | (() => string | Promise<string>);
  /**
   * Called when the state changes; reason says why there is no connection. error is there if the gateway itself has refused to open one: code and message
   * are those of its answer, too_many_clients for example. Where it said when to come back, the next attempt is not made before that.
   */
  onState?: (state: State, reason?: string, error?: PghubError) => void;
  /** Called with each advisory of the gateway, as its README has them, before the gap that one may cause: to show that the database is away, for example. */
  onAdvisory?: (advisory: PghubAdvisory) => void;
  /** Milliseconds to the next attempt: a random time up to minDelay (250) doubled each time, at most maxDelay (10,000). */
  minDelay?: number;
  maxDelay?: number;
  /** Milliseconds without a message until the gateway is asked (25,000), and then until the connection counts as lost (10,000). */
  pingInterval?: number;
  pingTimeout?: number;
  /** How many events of a subscription wait for the loop that takes them: 10,000. Then the oldest give way to a gap. */
  maxQueue?: number;
  /** Reads messages; JSON.parse. */
  parse?: (text: string) => any;
  /** The class to connect with; that of the platform. */
  WebSocket?: new (url: string | URL, protocols?: string[]) => any;
}

export interface SubscribeOptions {
  /** Begin behind this id, at a time (RFC 3339), or at "earliest". It counts for topics that this client is not subscribed to yet. Where that is not kept, a gap comes first. */
  since?: string;
  maxQueue?: number;
  /**
   * Only events whose keys begin so, and whose values have these fields with these values. The gateway sends no others, unless subscriptions of one
   * topic have different filters: then it sends all of that topic, and each subscription picks its own, where numbers are compared as
   * {@link Options.parse} reads them (the gateway does it as they are written). An event by which a publisher announces a gap passes in any case.
   */
  filter?: Filter;
}

export interface Filter {
  /** Integers, bigint where they are larger than 2^53. */
  key?: (number | bigint)[];
  /** What JSON has. */
  where?: Record<string, unknown>;
}

/** Connects to the gateway at a URL, https://host/prefix/, and goes on connecting until close. A query goes with each attempt. */
export function connect(url: string | URL, options?: Options): Client;

export class Client {
  constructor(url: string | URL, options?: Options);
  readonly state: State;
  /** Connects at once, instead of waiting, or anew: with another token, for example. */
  reconnect(): void;
  /**
   * Subscribes to topics, which may be patterns: chat_* stands for the topics that the gateway names when it is first asked, and is replaced by them
   * in `topics` of the subscription. {@link literal} names a topic with such a character. Events come in order; a topic that is refused has the loop over them throw a {@link PghubError}.
   *
   * Throws a PghubError with code `closed` after {@link close}, and a TypeError where options do not come last, or a filter is none.
   */
  subscribe<V = unknown>(...topics: [string, ...string[]]): Subscription<V>;
  subscribe<V = unknown>(...topicsAndOptions: [string, ...string[], SubscribeOptions]): Subscription<V>;
  /** Ends all subscriptions, and the connection. */
  close(): void;
}

/** Made by {@link Client.subscribe}. */
export class Subscription<V = unknown> implements AsyncIterableIterator<PghubEvent<V> | PghubGap> {
  private constructor();
  readonly topics: string[];
  /** Fulfilled when all topics are in effect for the first time: what is committed from then on comes. Rejected with what the loop throws, or, when the subscription or the client is closed before, with code `closed`. */
  readonly ready: Promise<void>;
  next(): Promise<IteratorResult<PghubEvent<V> | PghubGap, undefined>>;
  return(): Promise<IteratorResult<PghubEvent<V> | PghubGap, undefined>>;
  close(): void;
  [Symbol.asyncIterator](): this;
}

/** Names a topic with *, ? or [ in its name, which would be a pattern otherwise. */
export function literal(topic: string): string;

export class PghubError extends Error {
  /** As in the gateway's README: topic_not_allowed, not_authorized … Besides, of the client itself: closed, and bad_request where no topic is named. */
  code: string;
  topic?: string;
  constructor(code: string, message: string, topic?: string);
}
