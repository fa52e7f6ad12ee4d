/**
 * A curhat.v1 client: one anonymous conversation after the other, over one WebSocket. Nothing here touches a page;
 * the caller supplies the address and the local media, and listens to events (`CurhatEvents`).
 *
 * Two machines: the link (none, connecting, resuming, open), and the session, whose states are those of the protocol.
 * One table says what is heard in each; what it does not name is ignored. Whatever happens is decided to its end first
 * and told afterwards, so that a listener may call any method.
 */

import { Call } from "./curhat-call.js";
import { Resumption } from "./curhat-resumption.js";
import {
  closeKind, cut, distinctTopics, isRecord, isText, NO_CLOSE_FRAME, positive, socketUrl, Wire,
} from "./curhat-wire.js";

/**
 * As the server sees us; "disconnected" is the protocol's *closed*.
 * @typedef {"disconnected"|"connected"|"waiting"|"paired"|"negotiating"} State
 */
/** @typedef {"none"|"connecting"|"resuming"|"open"} Link */
/** @typedef {"connecting"|"connected"|"interrupted"|"failed"} MediaState */
/** @typedef {"gathering"|"checking"|"dtls"|"lost"} FailedStage */
/** @typedef {{type: string, [field: string]: any}} Message */

/**
 * @typedef {object} Settings
 * @property {string} url             ws: or wss: address of the server's `/ws`, without the name
 * @property {RTCConfiguration} [rtc] for every RTCPeerConnection; its ICE servers are used beside the server's
 */

/**
 * @typedef {object} JoinOptions
 * @property {string} [username]
 * @property {string[]} [topics]
 * @property {string} [room]  pairs only with those who name the same; 1 to 64 characters
 */

/**
 * @typedef {object} Partner
 * @property {string} id
 * @property {string} username    a stranger's words: text, never markup
 * @property {string[]} topics    those that both have
 * @property {string} roomId
 * @property {"offerer"|"answerer"} role  ours
 * @property {boolean} polite     whether we are
 */

/**
 * @typedef {object} CallStats
 * @property {"direct"|"relay"|"unknown"} path
 * @property {string} localCandidate   host, srflx, prflx or relay
 * @property {string} remoteCandidate
 * @property {string} transport        udp, tcp or tls
 * @property {number|null} rttMilliseconds
 * @property {number} sendKbps         since the last call of `stats`, as are the two that follow
 * @property {number} receiveKbps
 * @property {number|null} packetsLost 0 to 1, of what the partner sent
 * @property {number} framesDecoded    since the call began
 * @property {"good"|"fair"|"poor"|"unknown"} quality
 */

/**
 * "retrying": comes back by itself after `delaySeconds`. "resuming": likewise, and the session, with the partner,
 * is still there. "closed": only the person can start again.
 * @typedef {object} ConnectionDetail
 * @property {"connecting"|"open"|"retrying"|"resuming"|"resumed"|"closed"} phase
 * @property {string} [kind]           why it ended, by close code; "asked": by `disconnect`
 * @property {number} [code]           of the close frame
 * @property {number} [attempt]
 * @property {number} [delaySeconds]
 * @property {boolean} [rejoining]     whether a partner is looked for as soon as the connection is back
 */

/**
 * The `detail` of each event.
 * @typedef {object} CurhatEvents
 * @property {{state: State, previous: State}} statechange
 * @property {ConnectionDetail} connection
 * @property {{partner: Partner}} paired
 * @property {{partner: Partner|null, reason: string}} partnerleft  not told after one's own leave or next
 * @property {{stream: MediaStream|null}} remotestream  camera and microphone; told again when its tracks change
 * @property {{stream: MediaStream|null}} remotescreen
 * @property {{media: MediaState, stage?: FailedStage}} media
 * @property {{text: string, username: string}} chat  from the partner
 * @property {{active: boolean}} typing
 * @property {{away: boolean}} away  the partner's connection to the server is interrupted, or back
 * @property {{code: string, message: string, ref: string|undefined, retryAfterSeconds: number|undefined}} refused
 * @property {{direction: "in"|"out"|"note", type: string, extra: string}} log  never holds what people say
 */

/**
 * @typedef {{
 *   addEventListener<Name extends keyof CurhatEvents>(type: Name,
 *     listener: (event: CustomEvent<CurhatEvents[Name]>) => void,
 *     options?: boolean|AddEventListenerOptions): void,
 *   removeEventListener<Name extends keyof CurhatEvents>(type: Name,
 *     listener: (event: CustomEvent<CurhatEvents[Name]>) => void,
 *     options?: boolean|EventListenerOptions): void
 * } & EventTarget} CurhatEventTarget
 */

/** @typedef {"retry"|"stable"|"window"|"again"|"ice"} TimerName */
/** @typedef {Record<string, (message: Message) => void>} Row  what each message does */

const TypedEventTarget = /** @type {{new(): CurhatEventTarget}} */ (EventTarget);

/** Which state may follow which. @type {Record<State, State[]>} */
const TRANSITIONS = {
  disconnected: ["connected"],
  connected: ["waiting", "disconnected"],
  waiting: ["paired", "connected", "disconnected"],
  paired: ["negotiating", "connected", "disconnected"],
  negotiating: ["connected", "disconnected"],
};

/** What proxies say that go away, or have no server behind them just now. */
const PROXY_CODES = new Set([1001, 1005, 1011, 1012, 1013]);

/**
 * Whether a client comes back by itself after this close code [P-9.1, P-9.2].
 * @param {number} code
 */
export function shouldRetry(code) {
  return code === NO_CLOSE_FRAME || PROXY_CODES.has(code) || (code >= 4000 && code < 4500);
}

const SHUTDOWN = 4000;
const RATE_LIMITED = 4003;

const STABLE_AFTER = 10_000;
const RETRY_FIRST = 1_000;
const RETRY_MAX = 30_000;
const RETRY_MIN_RATE_LIMITED = 10_000;
const RATE_LIMITED_PAUSE = 1_000;
/** The longest time that a browser's timer can take; a longer one would fire at once. */
const LONGEST_TIMER = 2_147_483_647;
/** After which part of their life servers' credentials are renewed. */
const ICE_REFRESH_PART = 0.75;
/** Names for `ping.data`: the pong proves that all that was said before has arrived. */
const PING_FOR_ANSWER = "answer";
const PING_FOR_ALL = "all";

/**
 * Exponential backoff with jitter: between half and the whole of the doubled delay, in milliseconds.
 * @param {number} attempt  1 for the first retry
 * @param {number} [random] in [0, 1)
 */
export function retryDelay(attempt, random = Math.random()) {
  const ceiling = Math.min(RETRY_MAX, RETRY_FIRST * 2 ** (attempt - 1));
  return ceiling / 2 + (ceiling / 2) * random;
}

/**
 * Splits "a, b, b" into distinct topics, at most `most` of them, cut to `longest` characters.
 * @param {string} text
 * @param {number} [most]
 * @param {number} [longest]
 */
export function parseTopics(text, most = 5, longest = 32) {
  return distinctTopics(text.split(","), most, longest);
}

/** A person's side of the service: `start`, `next`, `leave`, `disconnect`. */
export class Curhat extends TypedEventTarget {
  /** @type {URL} */ #url;
  /** @type {RTCConfiguration} */ #rtc;
  /** @type {Wire|null} */ #wire = null;
  /** @type {Link} */ #link = "none";
  /** @type {State} */ #state = "disconnected";
  /** @type {Call|null} */ #call = null;
  /** @type {Partner|null} */ #partner = null;
  /** The room of the last `ready` or `join`. */ #room = "";
  /** @type {MediaStream|null} */ #localStream = null;
  /** Ends when we stop sharing our screen. @type {AbortController|null} */ #sharing = null;
  /** @type {JoinOptions} */ #options = {};
  /** Our leave or next that is not acknowledged yet. @type {"leave"|"next"|null} */ #leaving = null;
  #wantsPartner = false;
  /** What `status` has told of this pairing. @type {Set<string>} */ #told = new Set();
  #typing = false;
  #partnerTypes = false;
  #partnerAway = false;

  /** @type {Resumption|null} */ #resumption = null;
  /** The welcome of a connection that tries to resume. @type {Message|null} */ #welcome = null;
  #attempt = 0;
  #retryAfter = 0;
  #retryAt = 0;
  /** Until then only the person may call for a new attempt. */ #notBefore = 0;
  /** @type {AbortController|null} */ #network = null;
  /** @type {Record<TimerName, number>} */
  #timers = { retry: 0, stable: 0, window: 0, again: 0, ice: 0 };
  /** @type {CustomEvent[]} */ #untold = [];
  #deciding = false;

  /** @type {string|null} */ sessionId = null;
  /** What the server takes; see the protocol's `welcome`. @type {Record<string, number>} */ limits = {};
  /** The optional parts that the server has. @type {string[]} */ features = [];

  /** What is heard in every situation. @type {Row} */
  #always = {
    error: (message) => this.#onError(message),
    goaway: (message) => this.#onGoaway(message),
    pong: (message) => this.#onPong(message),
    ice: (message) => this.#onIce(message),
  };

  /** @type {Row} */
  #talk = {
    offer: (message) => this.#onDescription(message),
    candidate: (message) => this.#onCandidate(message),
    chat: (message) => this.#onChat(message),
    typing: (message) => this.#onTyping(message),
    peer: (message) => this.#onPeer(message),
    leave: (message) => this.#onPartnerLeft(message),
  };

  /**
   * What is heard in each situation: the link's while it is not open, then the session's.
   * @type {Record<string, Row>}
   */
  #table = {
    connecting: { welcome: (message) => this.#onWelcome(message) },
    resuming: { resumed: (message) => this.#onResumed(message) },
    connected: { ready: (message) => this.#onReady(message) },
    leaving: { leave: (message) => this.#onLeaveDone(message) },
    waiting: {
      ready: (message) => this.#onReady(message),
      join: (message) => this.#onJoin(message),
      leave: (message) => this.#onWaitEnded(message),
    },
    paired: this.#talk,
    negotiating: { ...this.#talk, answer: (message) => this.#onDescription(message) },
  };

  /**
   * @param {Settings} settings
   * @throws {SyntaxError|TypeError} an address that is none, or is not allowed
   */
  constructor({ url, rtc = {} }) {
    super();
    this.#url = socketUrl(url);
    this.#rtc = rtc;
  }

  get state() { return this.#state; }
  /** @type {RTCPeerConnection|null} */
  get pc() { return this.#call?.pc ?? null; }
  get partner() { return this.#partner; }
  /** @type {MediaStream|null} */
  get remoteStream() { return this.#call?.remoteStream ?? null; }
  /** @type {MediaStream|null} */
  get remoteScreen() { return this.#call?.remoteScreen ?? null; }
  /** Asked for a partner and not been given up since. */
  get wantsPartner() { return this.#wantsPartner; }
  /** Our own leave or next, until the server has acknowledged it. */
  get leaving() { return this.#leaving; }
  /** A connection exists, is being made, or will be tried again by itself. */
  get active() { return this.#wire !== null || this.#timers.retry !== 0; }
  /** Whether the server has an optional part of the protocol, as far as is known. @param {string} feature */
  has(feature) { return this.sessionId === null || this.features.includes(feature); }
  get talking() { return this.#state === "paired" || this.#state === "negotiating"; }
  /** Whether the partner is shown our screen. */
  get sharing() { return this.#sharing !== null; }

  // --- what the person does -------------------------------------------------

  /**
   * What is sent, now and in the pairings to come. In a call a track takes the place of one of its kind; what is new
   * or missing is negotiated. The tracks remain the caller's to stop.
   * @param {MediaStream|null} stream
   */
  setLocalStream(stream) {
    this.#localStream = stream;
    this.#call?.setLocalStream(stream);
  }

  /**
   * Shows this partner a second video beside the camera, with its sound if it has any, until `stopSharing`, the video
   * track's or the pairing's end. The tracks remain the caller's to stop.
   * @param {MediaStream} stream
   * @returns {boolean} false: there is nobody to show it to, or it has no video
   */
  shareScreen(stream) {
    const [track] = stream.getVideoTracks();
    if (!this.#call || !track) return false;
    this.#sharing?.abort();
    this.#sharing = new AbortController();
    track.addEventListener("ended", () => this.stopSharing(), { signal: this.#sharing.signal });
    this.#call.setScreen(stream);
    return true;
  }

  stopSharing() {
    if (!this.#sharing) return;
    this.#endSharing();
    this.#call?.setScreen(null);
  }

  /**
   * Looks for a partner, connecting first where necessary.
   * @param {JoinOptions} [options]  without: as the last time
   * @throws {RangeError} a `room` that no server takes
   */
  start(options = this.#options) {
    const { room } = options;
    if (room !== undefined && (room === "" || [...room].length > 64)) {
      throw new RangeError("room: expected 1 to 64 characters");
    }
    this.#decide(() => {
      this.#options = options;
      this.#wantsPartner = true;
      if (this.#wire === null) this.#connect();
      else if (this.#mayJoin()) this.#sendJoin();
    });
  }

  /** Leaves the partner and looks for another one. */
  next() {
    if (!this.talking) return;
    this.#decide(() => {
      this.#wantsPartner = true;
      this.#giveUp(this.has("next") ? "next" : "leave");
    });
  }

  /** Leaves the partner or the waiting room and stays connected. @param {string} [reason] */
  leave(reason) {
    this.#decide(() => {
      this.#wantsPartner = false;
      if (this.talking || this.#state === "waiting") this.#giveUp("leave", reason);
    });
  }

  /** Leaves and closes; nothing is retried. */
  disconnect() {
    this.#decide(() => {
      if (this.talking || this.#state === "waiting") this.#say({ type: "leave" });
      this.#wire?.close(1000);
      this.#finish(1000, "asked");
    });
  }

  /** Does not wait for the end of the current retry delay, unless the server asked for it. */
  retryNow() {
    if (!this.#timers.retry || Date.now() < this.#notBefore) return;
    this.#decide(() => this.#connect());
  }

  /** @param {string} text @returns {boolean} whether it was sent */
  chat(text) {
    const most = this.limits.chatCharacters ?? 2000;
    if (!this.talking || !this.has("chat")) return false;
    if (!text.trim() || [...text].length > most) return false;
    if (!this.#say({ type: "chat", text })) return false;
    this.#typing = false;
    return true;
  }

  /** Tells the partner that a text is being written, or no longer. @param {boolean} active */
  typing(active) {
    if (!this.talking || !this.has("typing") || active === this.#typing) return;
    if (this.#say({ type: "typing", active })) this.#typing = active;
  }

  /**
   * Reports this partner, or the last one.
   * @param {string} reason
   * @param {string} [detail]
   * @returns {boolean} whether it was sent
   */
  report(reason, detail) {
    if (!this.has("report")) return false;
    return this.#say(detail ? { type: "report", reason, detail } : { type: "report", reason });
  }

  /** Never again this partner, or the last one. @returns {boolean} whether it was sent */
  block() {
    return this.has("block") && this.#say({ type: "block" });
  }

  /** @returns {Promise<CallStats|null>} null: there is no call */
  async stats() {
    return this.#call ? this.#call.stats() : null;
  }

  // --- connection -----------------------------------------------------------

  #connect() {
    this.#clearTimer("retry");
    this.#watchNetwork();
    if (!this.#mayResume()) this.#emit("connection", { phase: "connecting", attempt: this.#attempt });
    const url = new URL(this.#url);
    const username = this.#username();
    if (username) url.searchParams.set("username", username);
    this.#link = "connecting";
    this.#wire = new Wire(url, {
      message: (message) => this.#decide(() => this.#receive(message)),
      wrote: (message) => this.#wrote(message),
      closed: (code) => this.#decide(() => this.#closed(code)),
      note: (text) => this.#note(text),
    });
  }

  /** @param {number} code */
  #closed(code) {
    if (this.#link === "open") this.#openWindow();
    this.#forgetWire();
    this.#note(`closed ${code}`);
    const kind = closeKind(code);
    if (code === SHUTDOWN) this.#resumption = null;
    if (!shouldRetry(code) || !this.#wantsPartner) {
      this.#finish(code, kind);
      return;
    }
    if (!this.#mayResume()) this.#loseSession();
    this.#retry(code, kind);
  }

  #forgetWire() {
    this.#wire = null;
    this.#link = "none";
    this.#clearTimer("stable");
    this.#clearTimer("again");
  }

  /** @param {number} code @param {string} kind */
  #retry(code, kind) {
    this.#attempt += 1;
    const least = Math.max(this.#retryAfter, code === RATE_LIMITED ? RETRY_MIN_RATE_LIMITED : 0);
    this.#retryAfter = 0;
    this.#notBefore = Date.now() + least;
    const delay = least + retryDelay(this.#attempt);
    this.#retryAt = Date.now() + delay;
    this.#setTimer("retry", delay, () => this.#connect());
    this.#tellRetry(kind, code);
  }

  /** @param {string} kind @param {number} code */
  #tellRetry(kind, code) {
    this.#emit("connection", {
      phase: this.#mayResume() ? "resuming" : "retrying", kind, code, attempt: this.#attempt,
      delaySeconds: (this.#retryAt - Date.now()) / 1000, rejoining: this.#wantsPartner,
    });
  }

  /** The connection is over until the person wants another. @param {number} code @param {string} kind */
  #finish(code, kind) {
    this.#attempt = 0;
    this.#retryAfter = 0;
    this.#wantsPartner = false;
    this.#forgetWire();
    this.#clearTimer("retry");
    this.#network?.abort();
    this.#network = null;
    this.#loseSession();
    this.#emit("connection", { phase: "closed", kind, code });
  }

  #watchNetwork() {
    if (this.#network) return;
    this.#network = new AbortController();
    const { signal } = this.#network;
    const changed = () => this.#decide(() => this.#networkChanged());
    globalThis.addEventListener("online", changed, { signal });
    // Where a browser tells it: cellular, wifi, ... Its estimates of speed change all the time, and mean nothing here.
    const connection = /** @type {any} */ (navigator).connection;
    let type = connection?.type;
    connection?.addEventListener("change", () => {
      if (connection.type === type) return;
      type = connection.type;
      changed();
    }, { signal });
  }

  #networkChanged() {
    this.retryNow();
    if (this.#link !== "open") return;
    this.#wire?.probe();
    this.#call?.networkChanged();
  }

  // --- the session goes on over another socket --------------------------------

  #mayResume() {
    return this.#resumption !== null && this.#timers.window !== 0;
  }

  /** The session waits for us for a while. */
  #openWindow() {
    if (!this.#resumption?.token || this.#state === "disconnected") return;
    this.#resumption.seq = this.#wire?.heard ?? 0;
    this.#setTimer("window", this.#resumption.milliseconds, () => this.#windowClosed());
  }

  #windowClosed() {
    if (this.#link === "resuming") return;
    this.#loseSession();
    if (this.#timers.retry) this.#tellRetry("unreachable", NO_CLOSE_FRAME);
    else this.#emit("connection", { phase: "connecting", attempt: this.#attempt });
  }

  /** @param {Message} message */
  #onResumed(message) {
    const resumption = this.#resumption;
    if (!resumption) return;
    this.#clearTimer("window");
    if (this.#wire) this.#wire.heard = resumption.seq;
    resumption.renew(message);
    this.#opened(this.#welcome?.pingSeconds);
    this.#emit("connection", { phase: "resumed" });
    const lost = resumption.takeLost(message.heard);
    if (!lost) {
      this.#catchUp();
      return;
    }
    for (const each of lost) this.#write(each);
    this.#call?.mend();
  }

  #onResumeFailed() {
    const welcome = this.#welcome;
    this.#loseSession();
    if (welcome) this.#begin(welcome);
  }

  /**
   * Nobody knows which of our last words are lost. The pong comes behind all that the server has for us; then we know
   * what is still open.
   */
  #catchUp() {
    this.#say({ type: "ping", data: PING_FOR_ALL });
  }

  #caughtUp() {
    if (this.#leaving) this.#say({ type: this.#leaving });
    else if (this.#mayJoin()) this.#sendJoin();
    else this.#call?.signalAgain();
  }

  /** Nothing is left of it but the wish for a partner. */
  #loseSession() {
    this.#clearTimer("window");
    this.#resumption = null;
    this.#leaving = null;
    this.#endPairing();
    this.#move("disconnected");
  }

  // --- timers -----------------------------------------------------------------

  /** @param {TimerName} name @param {number} milliseconds @param {() => void} action */
  #setTimer(name, milliseconds, action) {
    this.#clearTimer(name);
    this.#timers[name] = setTimeout(() => {
      this.#timers[name] = 0;
      this.#decide(action);
    }, Math.min(milliseconds, LONGEST_TIMER));
  }

  /** @param {TimerName} name */
  #clearTimer(name) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = 0;
  }

  // --- messages out ---------------------------------------------------------

  /** Says something within the session. @param {Message} message @returns {boolean} whether it was sent */
  #say(message) {
    return this.#link === "open" && this.#write(message);
  }

  /**
   * Says it as soon as the session goes on, if it is interrupted.
   * @param {Message} message
   * @returns {boolean} whether it was sent, or will be
   */
  #sayOrKeep(message) {
    if (this.#link === "open" || !this.#mayResume()) return this.#say(message);
    this.#resumption?.keep(message);
    return true;
  }

  /** @param {Message} message */
  #write(message) {
    return this.#wire?.write(message) ?? false;
  }

  /** @param {Message} message */
  #wrote(message) {
    if (this.#link === "open") this.#resumption?.keep(message);
    this.#log("out", message);
  }

  #username() {
    const text = (this.#options.username ?? "").replace(/\p{Cc}/gu, "").trim();
    return cut(text, this.limits.usernameCharacters ?? 64);
  }

  #mayJoin() {
    return this.#link === "open" && this.#state === "connected" && this.#wantsPartner && !this.#leaving;
  }

  #sendJoin() {
    const { topics = [], room } = this.#options;
    const username = this.#username();
    const distinct = distinctTopics(topics, this.limits.topics ?? 5, this.limits.topicCharacters ?? 32);
    /** @type {Message} */
    const message = { type: "join" };
    if (username) message.username = username;
    if (distinct.length) message.topics = distinct;
    if (room) message.room = room;
    this.#say(message);
  }

  /**
   * Ends the pairing or the wait here at once; the server's word follows.
   * @param {"leave"|"next"} kind
   * @param {string} [reason]
   */
  #giveUp(kind, reason) {
    this.#leaving = kind;
    this.#sayOrKeep(reason ? { type: kind, reason: cut(reason) } : { type: kind });
    this.#endPairing();
    this.#move("connected");
  }

  /** Each is told once. @param {"connected"|"failed"} media @param {{stage?: string, path?: string}} more */
  #sendStatus(media, more) {
    if (this.#told.has(media) || this.#state !== "negotiating" || !this.has("status")) return;
    if (this.#sayOrKeep({ type: "status", media, ...more })) this.#told.add(media);
  }

  // --- messages in ----------------------------------------------------------

  /** @param {Message} message */
  #receive(message) {
    this.#log("in", message);
    const row = this.#table[this.#situation()];
    const act = [this.#always, row].find((each) => Object.hasOwn(each, message.type));
    if (act) act[message.type](message);
    else this.#note(`${message.type} not expected while ${this.#situation()}, ignored`);
  }

  /** Names a row of the table. @returns {string} */
  #situation() {
    if (this.#link !== "open") return this.#link;
    return this.#leaving ? "leaving" : this.#state;
  }

  /** @param {Message} message */
  #onWelcome(message) {
    this.#readLimits(message);
    if (this.#mayResume() && this.#resumption && this.has("resume")) {
      this.#welcome = message;
      this.#link = "resuming";
      this.#write({ type: "resume", token: this.#resumption.token, lastSeq: this.#resumption.seq });
      return;
    }
    this.#loseSession();
    this.#begin(message);
  }

  /** @param {Message} welcome */
  #readLimits({ limits, features }) {
    const entries = Object.entries(isRecord(limits) ? limits : {});
    this.limits = Object.fromEntries(entries.filter(([, value]) => positive(value) > 0));
    this.features = Array.isArray(features) ? features.filter(isText) : [];
    if (this.#wire) this.#wire.mostBytes = this.limits.messageBytes ?? Infinity;
  }

  /** A fresh session. @param {Message} welcome */
  #begin(welcome) {
    this.sessionId = welcome.sessionId;
    this.#resumption = new Resumption(welcome);
    const back = this.#attempt > 0;
    this.#opened(welcome.pingSeconds);
    this.#move("connected");
    this.#emit("connection", { phase: "open", rejoining: back && this.#wantsPartner });
    if (this.#mayJoin()) this.#sendJoin();
  }

  /** @param {unknown} pingSeconds */
  #opened(pingSeconds) {
    this.#link = "open";
    this.#welcome = null;
    this.#setTimer("stable", STABLE_AFTER, () => { this.#attempt = 0; });
    this.#wire?.keepAlive(pingSeconds);
  }

  /** @param {Message} message */
  #onReady(message) {
    this.#room = message.roomId;
    this.#move("waiting");
    if (!this.#wantsPartner) this.#giveUp("leave");
  }

  /** @param {Message} message */
  #onJoin(message) {
    this.#room = message.roomId;
    this.#partner = partnerOf(message);
    this.#move("paired");
    this.#told.clear();
    this.#emit("paired", { partner: this.#partner });
    try {
      this.#call = this.#makeCall(this.#partner, message);
      this.#call.begin();
      this.#emit("media", { media: "connecting" });
    } catch (error) {
      this.#note(`no peer connection: ${error instanceof Error ? error.name : "unknown"}`);
      this.#emit("media", { media: "failed", stage: "gathering" });
    }
    this.#scheduleIce(message.ttlSeconds);
  }

  /** @param {Partner} partner @param {Message} message */
  #makeCall({ role, polite }, message) {
    const configuration = { ...this.#rtc, ...this.#servers(message) };
    const call = new Call(configuration, { role, polite, localStream: this.#localStream }, {
      send: (out) => this.#decide(() => this.#sendSignal(out)),
      reachable: () => this.#link === "open" && !this.#partnerAway,
      media: (media, stage) => this.#decide(() => this.#onMedia(call, media, stage)),
      remote: (stream) => this.#emit("remotestream", { stream }),
      screen: (stream) => this.#emit("remotescreen", { stream }),
      note: (text) => this.#note(text),
    });
    return call;
  }

  /** @param {Message} message @returns {RTCConfiguration} */
  #servers({ iceServers, iceTransportPolicy }) {
    const relayOnly = [iceTransportPolicy, this.#rtc.iceTransportPolicy].includes("relay");
    return {
      iceServers: [...(this.#rtc.iceServers ?? []), ...(Array.isArray(iceServers) ? iceServers : [])],
      iceTransportPolicy: relayOnly ? "relay" : "all",
    };
  }

  /** Servers' credentials are good for so long; fresh ones are fetched in time. @param {unknown} seconds */
  #scheduleIce(seconds) {
    if (!this.has("ice") || positive(seconds) === 0) return;
    const milliseconds = Math.max(10_000, positive(seconds) * ICE_REFRESH_PART * 1000);
    this.#setTimer("ice", milliseconds, () => this.#sayOrKeep({ type: "ice" }));
  }

  /** @param {Message} message */
  #onIce(message) {
    if (!this.#call) return;
    this.#call.setServers(this.#servers(message));
    this.#scheduleIce(message.ttlSeconds);
  }

  /** @param {Message} message */
  #sendSignal(message) {
    if (!this.talking || !this.#sayOrKeep(message)) return;
    if (message.type === "offer" && this.#state === "paired") this.#move("negotiating");
    if (message.type === "answer") this.#say({ type: "ping", data: PING_FOR_ANSWER });
  }

  /** @param {Call} call @param {MediaState} media @param {FailedStage} [stage] */
  async #onMedia(call, media, stage) {
    this.#emit("media", stage ? { media, stage } : { media });
    if (media === "failed") this.#sendStatus(media, stage ? { stage } : {});
    if (media !== "connected") return;
    const path = await call.path();
    if (this.#call === call) this.#decide(() => this.#sendStatus(media, path ? { path } : {}));
  }

  /** Whether a relayed message was said in the pairing that we are in [P-4.8]. @param {Message} message */
  #isCurrent({ roomId }) {
    return roomId === this.#partner?.roomId;
  }

  /** @param {Message} message */
  #onDescription(message) {
    if (!this.#isCurrent(message) || !this.#call) return;
    if (message.type === "offer" && this.#state === "paired") this.#move("negotiating");
    const type = message.type === "offer" ? "offer" : "answer";
    this.#call.receiveDescription({ type, sdp: message.payload.sdp });
  }

  /** @param {Message} message */
  #onCandidate(message) {
    if (this.#isCurrent(message)) this.#call?.receiveCandidate(message.payload);
  }

  /** @param {Message} message */
  #onChat(message) {
    if (!this.#isCurrent(message) || !this.#partner) return;
    this.#setPartnerTypes(false);
    this.#emit("chat", { text: message.text, username: this.#partner.username });
  }

  /** @param {Message} message */
  #onTyping(message) {
    if (this.#isCurrent(message)) this.#setPartnerTypes(message.active);
  }

  /** @param {boolean} active */
  #setPartnerTypes(active) {
    if (active === this.#partnerTypes) return;
    this.#partnerTypes = active;
    this.#emit("typing", { active });
  }

  /** @param {Message} message */
  #onPeer(message) {
    const away = message.state === "away";
    if ((message.roomId !== undefined && !this.#isCurrent(message)) || away === this.#partnerAway) return;
    this.#partnerAway = away;
    if (away) this.#setPartnerTypes(false);
    this.#emit("away", { away });
    if (!away) this.#call?.mend();
  }

  /** @param {Message} message */
  #onPartnerLeft(message) {
    if (!this.#isCurrent(message)) return;
    const partner = this.#partner;
    // A server which restarts closes the connection next; then we come back and join again.
    if (message.reason !== "server_shutdown") this.#wantsPartner = false;
    this.#endPairing();
    this.#move("connected");
    this.#emit("partnerleft", { partner, reason: message.reason });
  }

  /** @param {Message} message */
  #onWaitEnded(message) {
    if (message.roomId !== this.#room) return;
    if (message.reason !== "server_shutdown") this.#wantsPartner = false;
    this.#move("connected");
    this.#emit("partnerleft", { partner: null, reason: message.reason });
  }

  /** After `leave` nothing follows; after `next` the server lets us wait again. @param {Message} message */
  #onLeaveDone(message) {
    if (message.from !== this.sessionId) return;
    const kind = this.#leaving;
    this.#leaving = null;
    if (kind === "leave" && this.#mayJoin()) this.#sendJoin();
  }

  /** @param {Message} message */
  #onError(message) {
    const { code, ref, fatal } = message;
    if (fatal) this.#retryAfter = 1000 * positive(message.retryAfterSeconds);
    if (this.#link === "resuming") {
      if (code === "resume_failed" || ref === "resume") this.#onResumeFailed();
    } else if (code === "rate_limited" && !fatal) this.#onRateLimited(message);
    else if (this.#leaving && ref === this.#leaving) this.#onLeaveRefused(message);
    else if (ref === "join") this.#onJoinRefused(message);
    else if (fatal || (code !== "wrong_state" && code !== "not_your_turn")) this.#refused(message);
  }

  /**
   * Which message was dropped is not always known: after the pause we say whatever is still open.
   * @param {Message} message
   */
  #onRateLimited(message) {
    this.#refused(message);
    const pause = 1000 * positive(message.retryAfterSeconds) || RATE_LIMITED_PAUSE;
    this.#setTimer("again", pause, () => this.#catchUp());
  }

  /** "wrong_state": the partner was faster and there is nothing left to leave [P-4.9]. @param {Message} message */
  #onLeaveRefused(message) {
    const kind = this.#leaving;
    this.#leaving = null;
    if (message.code === "wrong_state") {
      if (this.#mayJoin()) this.#sendJoin();
      return;
    }
    this.#wantsPartner = false;
    this.#refused(message);
    if (kind === "next") this.#giveUp("leave");
    else this.disconnect();
  }

  /** @param {Message} message */
  #onJoinRefused(message) {
    if (this.#state === "connected") this.#wantsPartner = false;
    this.#refused(message);
  }

  /** @param {Message} message */
  #refused({ code, message, ref, retryAfterSeconds }) {
    this.#emit("refused", {
      code, message: String(message ?? ""), ref, retryAfterSeconds: positive(retryAfterSeconds) || undefined,
    });
  }

  /** @param {Message} message */
  #onGoaway(message) {
    this.#attempt = 0;
    this.#retryAfter = 1000 * positive(message.retryAfterSeconds);
  }

  /** @param {Message} message */
  #onPong({ data }) {
    if (this.#link === "open") this.#resumption?.prove();
    if (data === PING_FOR_ANSWER) this.#call?.answerArrived();
    if (data === PING_FOR_ALL && this.#link === "open") this.#caughtUp();
  }

  // --- state ----------------------------------------------------------------

  /** Closes what belongs to the present pairing, if there is one. */
  #endPairing() {
    this.#partner = null;
    this.#typing = false;
    this.#partnerAway = false;
    this.#setPartnerTypes(false);
    this.#endSharing();
    this.#clearTimer("ice");
    const call = this.#call;
    this.#call = null;
    if (!call) return;
    call.close();
    if (call.remoteScreen) this.#emit("remotescreen", { stream: null });
    this.#emit("remotestream", { stream: null });
  }

  #endSharing() {
    this.#sharing?.abort();
    this.#sharing = null;
  }

  /** @param {State} state */
  #move(state) {
    const previous = this.#state;
    if (state === previous) return;
    if (!TRANSITIONS[previous].includes(state)) throw new Error(`${previous} cannot become ${state}`);
    this.#state = state;
    this.#emit("statechange", { state, previous });
  }

  /**
   * Runs what decides; whatever it has to tell is told behind it.
   * @template Result
   * @param {() => Result} action
   * @returns {Result}
   */
  #decide(action) {
    if (this.#deciding) return action();
    this.#deciding = true;
    try {
      return action();
    } finally {
      this.#deciding = false;
      this.#tell();
    }
  }

  #tell() {
    for (let event = this.#untold.shift(); event; event = this.#untold.shift()) this.dispatchEvent(event);
  }

  /** @template {keyof CurhatEvents} Name @param {Name} name @param {CurhatEvents[Name]} detail */
  #emit(name, detail) {
    this.#untold.push(new CustomEvent(name, { detail }));
    if (!this.#deciding) this.#tell();
  }

  /** @param {string} text */
  #note(text) {
    this.#emit("log", { direction: "note", type: text, extra: "" });
  }

  /**
   * Only the type and harmless words of a message; never its payload.
   * @param {"in"|"out"} direction
   * @param {Message} message
   */
  #log(direction, message) {
    const extra = message.code ?? message.reason ?? message.media ?? message.role ?? "";
    this.#emit("log", { direction, type: message.type, extra: isText(extra) ? extra : "" });
  }
}

/** @param {Message} message @returns {Partner} */
function partnerOf({ from, username, topics, roomId, role, polite }) {
  return {
    id: from,
    username: isText(username) ? username : "",
    topics: Array.isArray(topics) ? topics.filter(isText) : [],
    roomId,
    role,
    polite,
  };
}
