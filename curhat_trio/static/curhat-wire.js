/**
 * One WebSocket to a curhat.v1 server, from its opening to its end: messages are parsed and validated here, and a dead
 * connection is detected. What messages mean, and whether to reconnect, is not known here.
 */

/**
 * A message on the wire (spec/protocol.md, section 3).
 * @typedef {{type: string, [field: string]: any}} Message
 */

/**
 * Type of a message -> its handler.
 * @typedef {Record<string, (message: Message) => void>} Handlers
 */

/**
 * @typedef {object} Hooks
 * @property {(message: Message) => void} message  a valid message was received that is no repetition
 * @property {(message: Message) => void} sent     a message was sent
 * @property {(code: number) => void} closed       the connection has ended; not called after `close`
 * @property {() => void} timedOut                 the server no longer answers; nothing is received from now on, and
 *   the socket is left open for `giveUp`
 * @property {(text: string) => void} note         something for the log
 */

export const SUBPROTOCOL = "curhat.v1";
export const NO_CLOSE_FRAME = 1006;

const WELCOME_TIMEOUT = 15_000;
const PONG_TIMEOUT = 10_000;
const PROBE_TIMEOUT = 5_000;
const DEFAULT_PING_SECONDS = 20;
const [MIN_PING_SECONDS, MAX_PING_SECONDS] = [5, 120];
/** A `seq` further ahead than this is not credible. */
const SEQ_LEAP = 10_000;
const TOKEN_CHARACTERS = 256;

/** @typedef {(value: unknown) => boolean} Check */

/** @param {unknown} value @returns {value is string} */
export const isText = (value) => typeof value === "string";
/** @param {any} value @returns {value is Record<string, any>} */
export const isRecord = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
/** @param {unknown} value @returns {value is number} */
export const isCount = (value) => Number.isSafeInteger(value);
/** @type {Check} */
const isDescription = (value) => isRecord(value) && isText(value.sdp);
/** @type {Check} */
const isCandidate = (value) => isRecord(value) && isText(value.candidate);
/** @type {Check} */
const isFlag = (value) => typeof value === "boolean";
/** @type {(...words: string[]) => Check} */
const oneOf = (...words) => (value) => isText(value) && words.includes(value);

const RELAYED = { from: isText, roomId: isText };

/**
 * The fields that a message must have to be valid, by type. Written down again here because a page can't import the
 * server's definitions.
 * @type {Record<string, Record<string, Check>>}
 */
const SHAPES = {
  welcome: { sessionId: isText },
  ready: { roomId: isText },
  join: { from: isText, roomId: isText, role: oneOf("offerer", "answerer"), polite: isFlag },
  offer: { ...RELAYED, payload: isDescription },
  answer: { ...RELAYED, payload: isDescription },
  candidate: { ...RELAYED, payload: isCandidate },
  chat: { ...RELAYED, text: isText },
  typing: { ...RELAYED, active: isFlag },
  media: { ...RELAYED, audio: isFlag, video: isFlag },
  peer: { ...RELAYED, state: oneOf("away", "back") },
  leave: { from: isText, roomId: isText, reason: isText },
  error: { code: isText },
  ice: { iceServers: Array.isArray },
};

/** Closes a connection whose session is to be resumed on another: any other code would end the session [P-13.12]. */
const GIVEN_UP = 4900;

/** Why a connection ended, by close code. @type {Record<number, string>} */
const CLOSE_KINDS = {
  1000: "ended",
  1002: "protocol",
  1003: "protocol",
  1006: "unreachable",
  1007: "protocol",
  1009: "protocol",
  1011: "internal",
  1012: "shutdown",
  1013: "busy",
  1014: "unreachable",
  4000: "shutdown",
  4001: "slow",
  4002: "no_pong",
  4003: "rate_limited",
  4004: "internal",
  4500: "bad_token",
  4501: "protocol",
  4502: "silent",
  4503: "version",
  4504: "banned",
  4505: "replaced",
  4506: "origin",
  4507: "too_many",
};

/** @param {number} code */
export function closeKind(code) {
  return CLOSE_KINDS[code] ?? (code >= 4000 && code < 4500 ? "unreachable" : "ended");
}

/** One WebSocket, which calls its hooks until it has ended. */
export class Wire {
  /** `seq` of the last message received [P-3.9]. */ lastSeq = 0;
  /** Bytes of UTF-8 that a message may have [P-2.12]. */ maxBytes = Infinity;

  /** @type {WebSocket} */ #socket;
  /** @type {Hooks} */ #hooks;
  /** Timer for the welcome, then for the next message after a ping; 0: nothing is waited for. */ #deadline = 0;
  /** When that is, by `performance.now()`. */ #deadlineAt = 0;
  #pingTimer = 0;

  /** @param {URL} url @param {Hooks} hooks */
  constructor(url, hooks) {
    this.#hooks = hooks;
    this.#socket = new WebSocket(url, [SUBPROTOCOL]);
    this.#socket.onmessage = (event) => this.#receive(event.data);
    this.#socket.onclose = (event) => this.#end(event.code);
    this.#expectAnswer(WELCOME_TIMEOUT);
  }

  /** @param {Message} message @returns {boolean} whether it was sent */
  write(message) {
    if (this.#socket.readyState !== WebSocket.OPEN) return false;
    const text = JSON.stringify(message, (_, value) => (isText(value) ? wellFormed(value) : value));
    if (new TextEncoder().encode(text).length > this.maxBytes) {
      this.#hooks.note(`${message.type} is longer than the server accepts, not sent`);
      return false;
    }
    this.#socket.send(text);
    this.#hooks.sent(message);
    return true;
  }

  /** From now on a ping is sent regularly, and something has to be received after it. @param {unknown} seconds */
  keepAlive(seconds) {
    this.#clear();
    const wanted = positive(seconds) || DEFAULT_PING_SECONDS;
    const pause = 1000 * Math.min(Math.max(MIN_PING_SECONDS, wanted), MAX_PING_SECONDS);
    this.#pingTimer = setInterval(() => this.#ping(PONG_TIMEOUT), pause);
  }

  /** Finds out soon whether the connection still works. */
  probe() {
    this.#ping(PROBE_TIMEOUT);
  }

  /** @param {number} code */
  close(code) {
    this.#detach();
    this.#socket.close(code);
  }

  /** Closes in such a way that the session can be, or was, resumed on another socket. */
  giveUp() {
    this.close(GIVEN_UP);
  }

  /** @param {number} timeout  milliseconds */
  #ping(timeout) {
    if (this.write({ type: "ping" })) this.#expectAnswer(timeout);
  }

  /** A deadline is never put off by another ping, however often the client pings. @param {number} timeout */
  #expectAnswer(timeout) {
    const at = performance.now() + timeout;
    if (this.#deadline && this.#deadlineAt <= at) return;
    clearTimeout(this.#deadline);
    this.#deadlineAt = at;
    this.#deadline = setTimeout(() => this.#timeOut(), timeout);
  }

  #clearDeadline() {
    clearTimeout(this.#deadline);
    this.#deadline = 0;
  }

  #timeOut() {
    this.#detach();
    this.#hooks.timedOut();
  }

  /** @param {number} code */
  #end(code) {
    this.#detach();
    this.#hooks.closed(code);
  }

  #detach() {
    this.#clear();
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
  }

  #clear() {
    this.#clearDeadline();
    clearInterval(this.#pingTimer);
  }

  /** @param {unknown} data */
  #receive(data) {
    if (this.#pingTimer) this.#clearDeadline();
    const message = parseMessage(data);
    if (!message) this.#hooks.note("invalid message, ignored");
    else if (!this.#isNew(message)) this.#hooks.note(`${message.type} was received before, ignored`);
    else this.#hooks.message(message);
  }

  /** @param {Message} message */
  #isNew({ seq }) {
    if (!isCount(seq) || seq > this.lastSeq + SEQ_LEAP) return true;
    if (seq <= this.lastSeq) return false;
    this.lastSeq = seq;
    return true;
  }
}

/** @param {unknown} data @returns {Message|null} null: not valid */
function parseMessage(data) {
  if (!isText(data)) return null;
  try {
    const message = JSON.parse(data);
    return isMessage(message) ? message : null;
  } catch {
    return null;
  }
}

/** @param {any} message @returns {message is Message} */
function isMessage(message) {
  if (!isRecord(message) || !isText(message.type)) return false;
  const shape = Object.hasOwn(SHAPES, message.type) ? SHAPES[message.type] : {};
  return Object.entries(shape).every(([field, check]) => check(message[field]));
}

/** @param {unknown} value @returns {number} 0 if it is no positive number */
export function positive(value) {
  return typeof value === "number" && value > 0 ? value : 0;
}

/**
 * An unpaired surrogate, such as half an emoji, becomes U+FFFD [P-2.17]: JSON and UTF-8 can't carry it.
 * @param {string} text
 */
export function wellFormed(text) {
  const { toWellFormed } = /** @type {any} */ (String.prototype); // not every browser has it
  return toWellFormed ? toWellFormed.call(text) : text.replace(/\p{Surrogate}/gu, "\uFFFD");
}

/** @param {string} text @param {number} [most]  code points */
export function truncate(text, most = TOKEN_CHARACTERS) {
  return [...text].slice(0, most).join("");
}

/** @param {string} text @returns {URL} */
export function socketUrl(text) {
  const url = new URL(text, globalThis.location?.href);
  url.hash = "";
  if (url.protocol !== "ws:" && url.protocol !== "wss:") throw new SyntaxError("url: expected ws: or wss:");
  if (url.protocol === "ws:" && globalThis.location?.protocol === "https:") {
    throw new TypeError("url: a page that came over https: reaches the server over wss: alone");
  }
  return url;
}

/** @param {string[]} topics @param {number} most @param {number} longest */
export function distinctTopics(topics, most, longest) {
  /** @type {Map<string, string>} */
  const seen = new Map();
  for (const each of topics) {
    const topic = truncate(each.trim().replace(/\s+/g, " "), longest).trimEnd();
    const key = topic.toLowerCase();
    if (topic && !seen.has(key)) seen.set(key, topic);
  }
  return [...seen.values()].slice(0, most);
}
