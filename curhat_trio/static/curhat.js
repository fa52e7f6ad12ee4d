/**
 * A curhat.v1 client: one anonymous conversation after the other, over one WebSocket. It does not touch the page; the
 * caller supplies the address and the local media, and listens to events (`CurhatEvents`).
 *
 * There are two state machines: the link (none, connecting, resuming, open), and the session, whose states are those
 * of the protocol. One table says which messages are handled in each state; all others are ignored. Every reaction
 * runs to its end before its events are dispatched, so that a listener may call any method.
 */

import { Call } from "./curhat-call.js";
import { Resumption } from "./curhat-resumption.js";
import {
  closeKind, distinctTopics, isRecord, isText, NO_CLOSE_FRAME, positive, socketUrl, truncate, Wire,
} from "./curhat-wire.js";

/**
 * The state of the session, as the server sees it (spec/protocol.md, section 4); "disconnected" is the protocol's
 * *closed*.
 * @typedef {"disconnected"|"connected"|"waiting"|"paired"|"negotiating"} State
 */

/**
 * Whether the partner's audio and video arrive. "interrupted": they did, and an ICE restart may bring them back.
 * @typedef {"connecting"|"connected"|"interrupted"|"failed"} MediaState
 */

/**
 * How far the connection to the partner had come when it failed; "lost": it had been connected.
 * @typedef {"gathering"|"checking"|"dtls"|"lost"} FailedStage
 */

/**
 * What a client is made with.
 * @typedef {object} Settings
 * @property {string} url  `ws:` or `wss:` address of the server's `/ws`, without the name
 * @property {RTCConfiguration} [rtc]  for every RTCPeerConnection; its ICE servers are used beside the server's
 */

/**
 * What kind of partner to look for, and as whom.
 * @typedef {object} JoinOptions
 * @property {string} [username]  shown to partners; cut to 64 characters; without it: Anonymous
 * @property {string[]} [topics]  at most 5 of 32 characters are sent; somebody who shares one is preferred [P-3.7]
 * @property {string} [room]  pairs only with those who name the same [P-3.6]; 1 to 64 characters
 */

/**
 * The partner of a pairing.
 * @typedef {object} Partner
 * @property {string} id  the partner's session id
 * @property {string} username  written by a stranger: show it as text, never as markup [P-11.2]
 * @property {string[]} topics  those that both have
 * @property {string} roomId  names this pairing
 * @property {"offerer"|"answerer"} role  this client's own role
 * @property {boolean} polite  whether this client is the polite side [P-5.8]
 */

/**
 * Figures of a call, from `RTCPeerConnection.getStats()`.
 * @typedef {object} CallStats
 * @property {"direct"|"relay"|"unknown"} path  whether a TURN server relays
 * @property {string} localCandidate  host, srflx, prflx or relay
 * @property {string} remoteCandidate  the same, of the partner
 * @property {string} transport  udp, tcp or tls
 * @property {number|null} rttMilliseconds  round trip time
 * @property {number} sendKbps  kilobits per second since the last call of `stats`
 * @property {number} receiveKbps  kilobits per second since the last call of `stats`
 * @property {number|null} packetsLost  0 to 1, of what the partner sent since the last call of `stats`
 * @property {number} framesDecoded  since the call began
 * @property {"good"|"fair"|"poor"|"unknown"} quality  a summary of round trip time and loss
 */

/**
 * What has happened to the connection to the server.
 * @typedef {object} ConnectionDetail
 * @property {"connecting"|"open"|"retrying"|"resuming"|"resumed"|"closed"} phase  "retrying": the client connects
 *   again after `delaySeconds`. "resuming": likewise, and the session, with its partner, is still there.
 *   "closed": only `start` connects again.
 * @property {string} [kind]  why the connection ended, by close code; "asked": by `disconnect`; "asleep": the page was
 *   hidden for good or frozen, and the client comes back with it
 * @property {number} [code]  of the close frame; 1006: there was none
 * @property {number} [attempt]  how many attempts have failed in a row
 * @property {number} [delaySeconds]  until the next attempt
 * @property {boolean} [rejoining]  whether a partner is looked for as soon as the connection is back
 */

/**
 * The session's state has changed.
 * @typedef {object} StateChangeDetail
 * @property {State} state  the state from now on
 * @property {State} previous  the state before
 */

/**
 * There is a partner.
 * @typedef {object} PairedDetail
 * @property {Partner} partner  who it is
 */

/**
 * The pairing or the wait was ended by somebody else. Not dispatched after `leave` and `next`.
 * @typedef {object} PartnerLeftDetail
 * @property {Partner|null} partner  who it was; null: there was none yet
 * @property {string} reason  the protocol's reason, such as "left", "next" or "peer_lost"
 */

/**
 * A stream of the partner's. Dispatched again when its tracks change.
 * @typedef {object} StreamDetail
 * @property {MediaStream|null} stream  null: there is none any more
 */

/**
 * Audio and video connect, or fail to.
 * @typedef {object} MediaDetail
 * @property {MediaState} media  the state from now on
 * @property {FailedStage} [stage]  with "failed": how far it had come
 */

/**
 * A text from the partner.
 * @typedef {object} ChatDetail
 * @property {string} text  written by a stranger: show it as text, never as markup [P-11.2]
 * @property {string} username  the partner's name
 */

/**
 * The partner has begun to write, or has stopped.
 * @typedef {object} TypingDetail
 * @property {boolean} active  whether a text is being written
 */

/**
 * Whether somebody's microphone and camera are on [P-3.20].
 * @typedef {object} MediaSwitches
 * @property {boolean} audio  whether sound is sent
 * @property {boolean} video  whether the camera's picture is sent
 */

/**
 * The partner's connection to the server is interrupted, or back [P-13.2].
 * @typedef {object} AwayDetail
 * @property {boolean} away  whether it is interrupted
 */

/**
 * Something was not answered in time.
 * @typedef {object} UnansweredDetail
 * @property {"offer"|"join"|"leave"|"next"} type  "offer": the partner's program did not answer; what was to change in
 *   the call has not changed for the partner. The others: the server did not, and the client connects anew or gives up
 */

/**
 * The server has refused a message (spec/protocol.md, section 8).
 * @typedef {object} RefusedDetail
 * @property {string} code  the protocol's error code
 * @property {string} message  what was wrong, in English, for developers
 * @property {string|undefined} ref  the type of the message that was refused
 * @property {number|undefined} retryAfterSeconds  after which time to send again
 * @property {boolean} retrying  whether the client does so by itself
 */

/**
 * A message was sent or received, or something was noticed. For diagnostics; never what people write.
 * @typedef {object} LogDetail
 * @property {"in"|"out"|"note"} direction  "note": neither sent nor received
 * @property {string} type  the type of the message, or the text of the note
 * @property {string} extra  a code, a reason, a role or a media state; or empty
 */

/**
 * The events of a client, each with its `detail`.
 * @typedef {object} CurhatEvents
 * @property {StateChangeDetail} statechange  the session's state has changed
 * @property {ConnectionDetail} connection  the connection to the server was made, lost or given up
 * @property {PairedDetail} paired  there is a partner
 * @property {PartnerLeftDetail} partnerleft  somebody else has ended the pairing or the wait
 * @property {StreamDetail} remotestream  the partner's camera and microphone
 * @property {StreamDetail} remotescreen  the partner's screen
 * @property {MediaDetail} media  audio and video connect, or fail to
 * @property {ChatDetail} chat  a text from the partner
 * @property {TypingDetail} typing  the partner has begun to write, or has stopped
 * @property {MediaSwitches} partnermedia  the partner has switched microphone or camera off or on; both count as on
 *   when a pairing begins, and again when it ends
 * @property {AwayDetail} away  the partner's connection to the server is interrupted, or back
 * @property {UnansweredDetail} unanswered  something was not answered in time
 * @property {RefusedDetail} refused  the server has refused a message
 * @property {LogDetail} log  for diagnostics
 */

/**
 * An EventTarget with the events of `CurhatEvents`.
 * @typedef {{
 *   addEventListener<Name extends keyof CurhatEvents>(type: Name,
 *     listener: (event: CustomEvent<CurhatEvents[Name]>) => void,
 *     options?: boolean|AddEventListenerOptions): void,
 *   removeEventListener<Name extends keyof CurhatEvents>(type: Name,
 *     listener: (event: CustomEvent<CurhatEvents[Name]>) => void,
 *     options?: boolean|EventListenerOptions): void
 * } & EventTarget} CurhatEventTarget
 */

/** @import { Handlers, Message } from "./curhat-wire.js" */

const TypedEventTarget = /** @type {{new(): CurhatEventTarget}} */ (EventTarget);

/** Which state may follow which. @type {Record<State, State[]>} */
const TRANSITIONS = {
  disconnected: ["connected"],
  connected: ["waiting", "disconnected"],
  waiting: ["paired", "connected", "disconnected"],
  paired: ["negotiating", "connected", "disconnected"],
  negotiating: ["connected", "disconnected"],
};

/** Close codes of proxies that go away, or whose server is not there at the moment. */
const PROXY_CODES = new Set([1001, 1005, 1011, 1012, 1013, 1014]);

/**
 * Whether a client reconnects by itself after this close code [P-9.1, P-9.2].
 * @param {number} code  of the close frame; 1006: there was none
 * @returns {boolean} whether it does
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
/** With so many messages not acknowledged the client pings, without waiting for the next regular ping. */
const MOST_UNACKNOWLEDGED = 64;
/** How long the server may take to answer a join, leave or next. */
const ANSWER_TIMEOUT = 15_000;
/** How long the connection may outlive the announcement that the server shuts down. */
const SHUTDOWN_TIMEOUT = 10_000;
const ICE_TIMEOUT = 30_000;
const NO_TIMERS = { retry: 0, stable: 0, window: 0, again: 0, answer: 0, shutdown: 0, ice: 0, media: 0 };
/** The longest time that a browser's timer can take; a longer one would fire at once. */
const LONGEST_TIMER = 2_147_483_647;
/** The part of the credentials' lifetime after which they are renewed. */
const ICE_REFRESH_PART = 0.75;
/** How often the local tracks are looked at: no event tells that `enabled` has changed. */
const MEDIA_INTERVAL = 250;
/** @type {Readonly<MediaSwitches>} */
const ALL_ON = Object.freeze({ audio: true, video: true });
/** Values of `ping.data`: the pong proves that all messages before it have arrived. */
const PING_FOR_ANSWER = "answer";
const PING_FOR_ALL = "all";
const PROBE = Object.freeze({ type: "ping", data: PING_FOR_ALL });

/**
 * Exponential backoff with jitter: between half and the whole of the doubled delay, in milliseconds.
 * @param {number} attempt  1 for the first retry
 * @param {number} [random]  in [0, 1)
 * @returns {number} milliseconds
 */
export function retryDelay(attempt, random = Math.random()) {
  const ceiling = Math.min(RETRY_MAX, RETRY_FIRST * 2 ** (attempt - 1));
  return ceiling / 2 + (ceiling / 2) * random;
}

/**
 * Splits "a, b, b" into distinct topics, at most `most` of them, cut to `longest` characters.
 * @param {string} text  separated by commas
 * @param {number} [most]  how many topics
 * @param {number} [longest]  how many characters of each
 * @returns {string[]} the topics, without surrounding space; those that differ only in case are one
 */
export function parseTopics(text, most = 5, longest = 32) {
  return distinctTopics(text.split(","), most, longest);
}

/**
 * One client of a server. `start` looks for a partner, `next` for another one, `leave` stops, `disconnect` closes the
 * connection. It reconnects and resumes the session by itself [P-9.1, P-13.3].
 *
 * It is an EventTarget; `CurhatEvents` has the `detail` of each event.
 */
export class Curhat extends TypedEventTarget {
  /** @type {URL} */ #url;
  /** @type {RTCConfiguration} */ #rtc;
  /** @type {Wire|null} */ #wire = null;
  /** The one that no longer answers, while its session is resumed over another. @type {Wire|null} */ #stalled = null;
  /** The connection to the server. @type {"none"|"connecting"|"resuming"|"open"} */ #link = "none";
  /** @type {State} */ #state = "disconnected";
  /** @type {Call|null} */ #call = null;
  /** @type {Partner|null} */ #partner = null;
  /** The room of the last `ready` or `join`. */ #room = "";
  /** @type {MediaStream|null} */ #localStream = null;
  /** Aborted when the screen is no longer shared. @type {AbortController|null} */ #sharing = null;
  /** @type {JoinOptions} */ #options = {};
  /** The leave or next that was sent and is not acknowledged yet. @type {"leave"|"next"|null} */ #leaving = null;
  #wantsPartner = false;
  /** The `id` of the last message that has one [P-3.19]; they are 1, 2, 3 and so on. */ #lastId = 0;
  /** The `id` of the join, leave or next that was sent last. */ #requestId = "";
  /** What it is, until it is answered. @type {"join"|"leave"|"next"|null} */ #request = null;
  /** The last `id` that was given before the present pairing. */ #idBefore = 0;
  /** Messages refused for the rate limit, and when to send each again. @type {{message: Message, due: number}[]} */
  #refused = [];
  /** The values of `status.media` sent in this pairing. @type {Set<string>} */ #sentStatus = new Set();
  #typing = false;
  #partnerIsTyping = false;
  #partnerAway = false;
  /** What `setMedia` says; null: as the tracks are. @type {{audio: boolean|null, video: boolean|null}} */
  #mediaOverride = { audio: null, video: null };
  /** What the partner knows of the own microphone and camera; null: not known. @type {MediaSwitches|null} */
  #sentMedia = ALL_ON;
  /** @type {MediaSwitches} */ #partnerMedia = ALL_ON;

  /** @type {Resumption|null} */ #resumption = null;
  /** The welcome of a connection that tries to resume. @type {Message|null} */ #welcome = null;
  #attempt = 0;
  #retryAfter = 0;
  #retryAt = 0;
  /** When `retryNow` may connect at the earliest; the server asked for that. */ #notBefore = 0;
  /** Ends the listening to the network and the page. @type {AbortController|null} */ #surroundings = null;
  /** Whether to look for a partner when the page comes back. */ #asleep = false;
  #timers = { ...NO_TIMERS };
  /** Events that wait for the end of a reaction. @type {CustomEvent[]} */ #pendingEvents = [];
  #reacting = false;

  /** The id that the server gave to the session; null: there is none yet. @type {string|null} */ sessionId = null;
  /** What the server accepts: `welcome.limits` of the protocol. @type {Record<string, number>} */ limits = {};
  /** The optional parts of the protocol that the server supports [P-3.1]. @type {string[]} */ features = [];

  /** What is handled in every state. @type {Handlers} */
  #always = {
    error: (message) => this.#onError(message),
    goaway: (message) => this.#onGoaway(message),
    pong: (message) => this.#onPong(message),
    ice: (message) => this.#onIce(message),
  };

  /** What is handled while there is a partner. @type {Handlers} */
  #inPairing = {
    offer: (message) => this.#onDescription(message),
    candidate: (message) => this.#onCandidate(message),
    chat: (message) => this.#onChat(message),
    typing: (message) => this.#onTyping(message),
    media: (message) => this.#onPartnerMedia(message),
    peer: (message) => this.#onPeer(message),
    leave: (message) => this.#onPartnerLeft(message),
  };

  /**
   * What is handled in each state: of the link while it is not open, then of the session.
   * @type {Record<string, Handlers>}
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
    paired: this.#inPairing,
    negotiating: { ...this.#inPairing, answer: (message) => this.#onDescription(message) },
  };

  /**
   * Nothing is sent before `start`.
   * @param {Settings} settings
   * @throws {SyntaxError|TypeError} the address is not valid, or not allowed: a page of `https:` needs `wss:` [P-11.4]
   */
  constructor({ url, rtc = {} }) {
    super();
    this.#url = socketUrl(url);
    this.#rtc = rtc;
  }

  /** The state of the session. */
  get state() { return this.#state; }
  /** The peer connection of the present call; the next call has another. @type {RTCPeerConnection|null} */
  get pc() { return this.#call?.pc ?? null; }
  /** The present partner; null: there is none. */
  get partner() { return this.#partner; }
  /** The partner's camera and microphone; null: there is no call. @type {MediaStream|null} */
  get remoteStream() { return this.#call?.remoteStream ?? null; }
  /** The partner's screen; null: it is not shared. @type {MediaStream|null} */
  get remoteScreen() { return this.#call?.remoteScreen ?? null; }
  /** Whether a partner is looked for, or there is one. */
  get wantsPartner() { return this.#wantsPartner; }
  /** The own leave or next, until the server has acknowledged it [P-4.6]. */
  get leaving() { return this.#leaving; }
  /** Whether a connection exists, is being made, or will be tried again by itself. */
  get active() { return this.#wire !== null || this.#timers.retry !== 0; }
  /**
   * Whether the server supports an optional part of the protocol [P-3.2]; true as long as that is not known.
   * @param {string} feature  such as "chat" or "next"
   */
  has(feature) { return this.sessionId === null || this.features.includes(feature); }
  /** Whether there is a partner. */
  get talking() { return this.#state === "paired" || this.#state === "negotiating"; }
  /** Whether the partner's microphone and camera are on, as far as the partner has announced it. */
  get partnerMedia() { return this.#partnerMedia; }
  /** Whether the own screen is shared with the partner. */
  get sharing() { return this.#sharing !== null; }

  // --- what the user does -------------------------------------------------

  /**
   * Sets what is sent, now and in the pairings to come. In a call a track replaces the one of its kind; what is new or
   * missing is negotiated. Stopping the tracks is left to the caller.
   * @param {MediaStream|null} stream  camera and microphone, or either; null: nothing is sent
   */
  setLocalStream(stream) {
    this.#localStream = stream;
    this.#call?.setLocalStream(stream);
    this.#react(() => this.#sendMedia());
  }

  /**
   * Overrides what the partner is shown of the own microphone and camera. Without this it follows from the local
   * stream: a kind is off if there is no track of it, or if that is disabled, muted or ended.
   * @param {{audio?: boolean|null, video?: boolean|null}} media  null, or left out: as the tracks are
   */
  setMedia({ audio = null, video = null }) {
    this.#mediaOverride = { audio, video };
    this.#react(() => this.#sendMedia());
  }

  /**
   * Shows this partner a second video beside the camera, with its sound if it has any, until `stopSharing`, the video
   * track's or the pairing's end. Stopping the tracks is left to the caller.
   * @param {MediaStream} stream  of `getDisplayMedia`
   * @returns {boolean} false: there is no call, or the stream has no video
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

  /** Ends what `shareScreen` began, if it still goes on. */
  stopSharing() {
    if (!this.#sharing) return;
    this.#endSharing();
    this.#call?.setScreen(null);
  }

  /**
   * Looks for a partner, connecting first where necessary.
   * @param {JoinOptions} [options]  without: as the last time
   * @throws {RangeError} `room` is empty or longer than 64 characters
   */
  start(options = this.#options) {
    const { room } = options;
    if (room !== undefined && (room === "" || [...room].length > 64)) {
      throw new RangeError("room: expected 1 to 64 characters");
    }
    this.#react(() => {
      this.#options = options;
      this.#asleep = false;
      this.#wantsPartner = true;
      if (this.#wire === null) this.#connect();
      else if (this.#mayJoin()) this.#sendJoin();
    });
  }

  /** Leaves the partner and looks for another one. */
  next() {
    if (!this.talking) return;
    this.#react(() => {
      this.#wantsPartner = true;
      this.#endWith(this.has("next") ? "next" : "leave");
    });
  }

  /**
   * Leaves the partner or the waiting room and stays connected.
   * @param {string} [reason]  at most 256 characters are sent
   */
  leave(reason) {
    this.#react(() => {
      this.#wantsPartner = false;
      if (this.talking || this.#state === "waiting") this.#endWith("leave", reason);
    });
  }

  /** Leaves and closes the connection [P-9.4]; nothing is retried. */
  disconnect() {
    this.#react(() => this.#disconnect("asked"));
  }

  /** @param {string} kind */
  #disconnect(kind) {
    if (this.talking || this.#state === "waiting") this.#send({ type: "leave" });
    this.#wire?.close(1000);
    this.#stalled?.close(1000);
    this.#stalled = null;
    this.#finish(1000, kind);
  }

  /** Connects now instead of after the current delay, unless the server asked for that delay [P-9.3]. */
  retryNow() {
    if (!this.#timers.retry || Date.now() < this.#notBefore) return;
    this.#react(() => this.#connect());
  }

  /**
   * Sends the partner a text.
   * @param {string} text  1 to 2000 characters (`limits.chatCharacters`), not only space
   * @returns {boolean} whether it was sent
   */
  chat(text) {
    const most = this.limits.chatCharacters ?? 2000;
    if (!this.talking || !this.has("chat")) return false;
    if (!text.trim() || [...text].length > most) return false;
    if (!this.#send({ type: "chat", text })) return false;
    this.#typing = false;
    return true;
  }

  /**
   * Notifies the partner that a text is being written, or no longer. Only changes are sent.
   * @param {boolean} active  whether it is
   */
  typing(active) {
    if (!this.talking || !this.has("typing") || active === this.#typing) return;
    if (this.#send({ type: "typing", active })) this.#typing = active;
  }

  /**
   * Reports this partner, or the last one, if the server supports that.
   * @param {string} reason  a word
   * @param {string} [detail]  in the user's own words
   * @returns {boolean} whether it was sent
   */
  report(reason, detail) {
    if (!this.has("report")) return false;
    return this.#send(detail ? { type: "report", reason, detail } : { type: "report", reason });
  }

  /** Blocks this partner, or the last one, if the server supports that. @returns {boolean} whether it was sent */
  block() {
    return this.has("block") && this.#send({ type: "block" });
  }

  /** Measures the present call. @returns {Promise<CallStats|null>} null: there is no call */
  async stats() {
    return this.#call ? this.#call.stats() : null;
  }

  // --- connection -----------------------------------------------------------

  #connect() {
    this.#clearTimer("retry");
    this.#listenToSurroundings();
    if (!this.#mayResume()) this.#emit("connection", { phase: "connecting", attempt: this.#attempt });
    const url = new URL(this.#url);
    const username = this.#username();
    if (username) url.searchParams.set("username", username);
    this.#link = "connecting";
    this.#wire = new Wire(url, {
      message: (message) => this.#react(() => this.#receive(message)),
      sent: (message) => this.#onSent(message),
      closed: (code) => this.#react(() => this.#closed(code)),
      timedOut: () => this.#react(() => this.#timedOut()),
      note: (text) => this.#note(text),
    });
  }

  /** @param {number} code */
  #closed(code) {
    if (this.#link === "open") this.#openResumeWindow();
    this.#dropWire();
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

  /**
   * The server no longer answers. A close frame is sent only once the session goes on over another connection: it
   * could arrive after all, and a server that does not know its code would end the session.
   */
  #timedOut() {
    if (this.#link === "open") this.#stalled = this.#wire;
    else this.#wire?.giveUp();
    this.#closed(NO_CLOSE_FRAME);
    if (!this.#mayResume()) this.#closeStalled();
  }

  /** The server has closed it with 4505, or will; nobody listens there any more. */
  #closeStalled() {
    this.#stalled?.giveUp();
    this.#stalled = null;
  }

  #dropWire() {
    this.#wire = null;
    this.#link = "none";
    for (const each of /** @type {const} */ (["stable", "again", "answer", "shutdown"])) this.#clearTimer(each);
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
    this.#emitRetry(kind, code);
  }

  /** @param {string} kind @param {number} code */
  #emitRetry(kind, code) {
    this.#emit("connection", {
      phase: this.#mayResume() ? "resuming" : "retrying", kind, code, attempt: this.#attempt,
      delaySeconds: (this.#retryAt - Date.now()) / 1000, rejoining: this.#wantsPartner,
    });
  }

  /** Gives the connection up until the user starts again. @param {number} code @param {string} kind */
  #finish(code, kind) {
    this.#attempt = 0;
    this.#retryAfter = 0;
    this.#wantsPartner = false;
    this.#dropWire();
    this.#clearTimer("retry");
    this.#asleep = false;
    this.#surroundings?.abort();
    this.#surroundings = null;
    this.#loseSession();
    this.#emit("connection", { phase: "closed", kind, code });
  }

  #listenToSurroundings() {
    if (this.#surroundings) return;
    this.#surroundings = new AbortController();
    const { signal } = this.#surroundings;
    this.#listenToPage(signal);
    const changed = () => this.#react(() => this.#networkChanged());
    globalThis.addEventListener("online", changed, { signal });
    // Some browsers have the type: cellular, wifi, ... Their estimates of speed change all the time and don't matter.
    const connection = /** @type {any} */ (navigator).connection;
    let type = connection?.type;
    connection?.addEventListener("change", () => {
      if (connection.type === type) return;
      type = connection.type;
      changed();
    }, { signal });
  }

  #networkChanged() {
    this.#checkConnection();
    if (this.#link === "open") this.#call?.networkChanged();
  }

  /** The connection may have ended while nobody could notice it. */
  #checkConnection() {
    this.retryNow();
    if (this.#link === "open") this.#wire?.probe();
  }

  // --- the page, which may be hidden, frozen or kept for the way back -----------

  /** @param {AbortSignal} signal */
  #listenToPage(signal) {
    const sleep = () => this.#react(() => this.#sleep());
    const wake = () => this.#react(() => this.#wake());
    globalThis.addEventListener("pagehide", sleep, { signal });
    globalThis.addEventListener("pageshow", wake, { signal });
    const page = globalThis.document;
    page?.addEventListener("freeze", sleep, { signal });
    page?.addEventListener("resume", wake, { signal });
    page?.addEventListener("visibilitychange", () => { if (!page.hidden) wake(); }, { signal });
  }

  /**
   * The browser goes on answering pings for a page whose scripts no longer run: nobody may be paired with it. So the
   * client leaves, and looks for a partner when the page is back.
   */
  #sleep() {
    if (!this.active) return;
    const wanted = this.#wantsPartner;
    this.#disconnect("asleep");
    this.#asleep = wanted;
    if (wanted) this.#listenToSurroundings();
  }

  #wake() {
    if (this.#asleep) this.start();
    else this.#checkConnection();
  }

  // --- resuming the session over another socket --------------------------------

  #mayResume() {
    return this.#resumption !== null && this.#timers.window !== 0;
  }

  /** For a while the server keeps the session. */
  #openResumeWindow() {
    if (!this.#resumption?.token || this.#state === "disconnected") return;
    this.#resumption.lastSeq = this.#wire?.lastSeq ?? 0;
    this.#setTimer("window", this.#resumption.milliseconds, () => this.#onResumeWindowClosed());
  }

  #onResumeWindowClosed() {
    if (this.#link === "resuming") return;
    this.#loseSession();
    if (this.#timers.retry) this.#emitRetry("unreachable", NO_CLOSE_FRAME);
    else this.#emit("connection", { phase: "connecting", attempt: this.#attempt });
  }

  /** @param {Message} message */
  #onResumed(message) {
    const resumption = this.#resumption;
    if (!resumption) return;
    this.#clearTimer("window");
    if (this.#wire) this.#wire.lastSeq = resumption.lastSeq;
    resumption.renew(message);
    this.#opened(this.#welcome?.pingSeconds);
    this.#closeStalled();
    this.#emit("connection", { phase: "resumed" });
    const unreceived = resumption.takeUnreceived(message.heard);
    if (!unreceived) {
      this.#probeReceived();
      return;
    }
    for (const each of unreceived) this.#write(each);
    this.#scheduleRefused();
    this.#expectAnswer();
    this.#call?.recover();
  }

  #onResumeFailed() {
    const welcome = this.#welcome;
    this.#loseSession();
    if (welcome) this.#begin(welcome);
  }

  /**
   * It is not known which of the last messages were lost. The pong arrives after everything that the server has sent;
   * then it is known what is still open.
   */
  #probeReceived() {
    this.#send(PROBE);
  }

  #onReceivedProbe() {
    if (this.#leaving) this.#sendRequest(this.#leaving);
    else if (this.#mayJoin()) this.#sendJoin();
    else this.#call?.resend();
    this.#sendMediaAnew();
  }

  /** Forgets the session; whether a partner is wanted remains. */
  #loseSession() {
    this.#clearTimer("window");
    this.#closeStalled();
    this.#resumption = null;
    this.#leaving = null;
    this.#answered();
    this.#refused = [];
    this.#endPairing();
    this.#move("disconnected");
  }

  // --- timers -----------------------------------------------------------------

  /** @param {keyof typeof NO_TIMERS} name @param {number} milliseconds @param {() => void} action */
  #setTimer(name, milliseconds, action) {
    this.#clearTimer(name);
    this.#timers[name] = setTimeout(() => {
      this.#timers[name] = 0;
      this.#react(action);
    }, Math.min(milliseconds, LONGEST_TIMER));
  }

  /** @param {keyof typeof NO_TIMERS} name */
  #clearTimer(name) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = 0;
  }

  // --- messages out ---------------------------------------------------------

  /** Sends within the session, with the next id. @param {Message} message @returns {boolean} whether it was sent */
  #send(message) {
    return this.#link === "open" && this.#write(this.#withId(message));
  }

  /** @param {Message} message @returns {Message} */
  #withId(message) {
    this.#lastId += 1;
    return { ...message, id: String(this.#lastId) };
  }

  /**
   * Sends now, or once the session is resumed if it is interrupted.
   * @param {Message} message
   * @returns {boolean} whether it was sent, or will be
   */
  #sendOrKeep(message) {
    if (this.#link === "open" || !this.#mayResume()) return this.#send(message);
    this.#resumption?.keep(this.#withId(message));
    return true;
  }

  /**
   * Sends what the server answers; only one such message is under way at a time.
   * @param {"join"|"leave"|"next"} type
   * @param {Record<string, unknown>} [fields]
   */
  #sendRequest(type, fields = {}) {
    this.#sendOrKeep({ type, ...fields });
    this.#requestId = String(this.#lastId);
    this.#request = type;
    this.#expectAnswer();
  }

  #expectAnswer() {
    if (this.#request && this.#link === "open") {
      this.#setTimer("answer", ANSWER_TIMEOUT, () => this.#onUnanswered());
    }
  }

  #answered() {
    this.#request = null;
    this.#clearTimer("answer");
  }

  /** The server works, but not this session. */
  #onUnanswered() {
    if (this.#request) this.#emit("unanswered", { type: this.#request });
    this.#resumption = null;
    this.#wire?.close(1000);
    this.#closed(NO_CLOSE_FRAME);
  }

  /** @param {Message} message */
  #write(message) {
    return this.#wire?.write(message) ?? false;
  }

  /** @param {Message} message */
  #onSent(message) {
    this.#log("out", message);
    if (this.#link !== "open" || !this.#resumption) return;
    this.#resumption.keep(message);
    const { size, isPinging } = this.#resumption;
    if (size >= MOST_UNACKNOWLEDGED && !isPinging) this.#write({ type: "ping" });
  }

  #username() {
    const text = (this.#options.username ?? "").replace(/\p{Cc}/gu, "").trim();
    return truncate(text, this.limits.usernameCharacters ?? 64);
  }

  #mayJoin() {
    return this.#link === "open" && this.#state === "connected" && this.#wantsPartner && !this.#leaving;
  }

  #sendJoin() {
    const { topics = [], room } = this.#options;
    const username = this.#username();
    const distinct = distinctTopics(topics, this.limits.topics ?? 5, this.limits.topicCharacters ?? 32);
    /** @type {JoinOptions} */
    const fields = {};
    if (username) fields.username = username;
    if (distinct.length) fields.topics = distinct;
    if (room) fields.room = room;
    this.#sendRequest("join", { ...fields });
  }

  /**
   * Ends the pairing or the wait here at once; the server's acknowledgement follows.
   * @param {"leave"|"next"} kind
   * @param {string} [reason]
   */
  #endWith(kind, reason) {
    this.#leaving = kind;
    this.#sendRequest(kind, reason ? { reason: truncate(reason) } : {});
    this.#endPairing();
    this.#move("connected");
  }

  /**
   * Each is sent once in a pairing.
   * @param {"connected"|"failed"} media
   * @param {{stage?: string, path?: string}} more
   */
  #sendStatus(media, more) {
    if (this.#sentStatus.has(media) || this.#state !== "negotiating" || !this.has("status")) return;
    if (this.#sendOrKeep({ type: "status", media, ...more })) this.#sentStatus.add(media);
  }

  /** Only changes are sent. */
  #sendMedia() {
    if (!this.talking || !this.has("media")) return;
    const media = { audio: this.#sends("audio"), video: this.#sends("video") };
    const known = this.#sentMedia;
    if (media.audio === known?.audio && media.video === known.video) return;
    if (this.#send({ type: "media", ...media })) this.#sentMedia = media;
  }

  /** The partner may not know it. */
  #sendMediaAnew() {
    this.#sentMedia = null;
    this.#sendMedia();
  }

  /** Sends what has changed, now and at intervals while there is a partner. */
  #followMedia() {
    this.#sendMedia();
    this.#setTimer("media", MEDIA_INTERVAL, () => this.#followMedia());
  }

  /** Whether there is anything to hear or to see. @param {"audio"|"video"} kind */
  #sends(kind) {
    const tracks = this.#localStream?.getTracks().filter((each) => each.kind === kind) ?? [];
    const live = tracks.some((each) => each.enabled && !each.muted && each.readyState === "live");
    return this.#mediaOverride[kind] ?? live;
  }

  // --- messages in ----------------------------------------------------------

  /** @param {Message} message */
  #receive(message) {
    this.#log("in", message);
    const row = this.#table[this.#stateName()];
    const act = [this.#always, row].find((each) => Object.hasOwn(each, message.type));
    if (act) act[message.type](message);
    else this.#note(`${message.type} not expected while ${this.#stateName()}, ignored`);
  }

  /** Names a row of the table. @returns {string} */
  #stateName() {
    if (this.#link !== "open") return this.#link;
    return this.#leaving ? "leaving" : this.#state;
  }

  /** @param {Message} message */
  #onWelcome(message) {
    this.#readLimits(message);
    if (this.#mayResume() && this.#resumption && this.has("resume")) {
      this.#welcome = message;
      this.#link = "resuming";
      this.#write({ type: "resume", token: this.#resumption.token, lastSeq: this.#resumption.lastSeq });
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
    if (this.#wire) this.#wire.maxBytes = this.limits.messageBytes ?? Infinity;
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
    this.#answered();
    this.#room = message.roomId;
    this.#move("waiting");
    if (!this.#wantsPartner) this.#endWith("leave");
  }

  /** @param {Message} message */
  #onJoin(message) {
    this.#room = message.roomId;
    this.#partner = partnerOf(message);
    this.#move("paired");
    this.#sentStatus.clear();
    this.#sentMedia = ALL_ON;
    this.#idBefore = this.#lastId;
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
    this.#followMedia();
  }

  /** @param {Partner} partner @param {Message} message */
  #makeCall({ role, polite }, message) {
    const configuration = { ...this.#rtc, ...this.#servers(message) };
    const call = new Call(configuration, { role, polite, localStream: this.#localStream }, {
      send: (out) => this.#react(() => this.#sendSignal(out)),
      reachable: () => this.#link === "open" && !this.#partnerAway,
      media: (media, stage) => this.#react(() => this.#onMedia(call, media, stage)),
      unanswered: () => this.#emit("unanswered", { type: "offer" }),
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

  /** Requests fresh credentials in time [P-3.16]. @param {unknown} seconds */
  #scheduleIce(seconds) {
    if (!this.has("ice") || positive(seconds) === 0) return;
    const milliseconds = Math.max(10_000, positive(seconds) * ICE_REFRESH_PART * 1000);
    this.#setTimer("ice", milliseconds, () => this.#requestIce());
  }

  /** Again and again, until they come or the pairing ends. */
  #requestIce() {
    this.#send({ type: "ice" });
    this.#setTimer("ice", ICE_TIMEOUT, () => this.#requestIce());
  }

  /** @param {Message} message */
  #onIce(message) {
    if (!this.#call) return;
    this.#call.setServers(this.#servers(message));
    this.#scheduleIce(message.ttlSeconds);
  }

  /** @param {Message} message */
  #sendSignal(message) {
    if (!this.talking || !this.#sendOrKeep(message)) return;
    if (message.type === "offer" && this.#state === "paired") this.#move("negotiating");
    if (message.type === "answer") this.#send({ type: "ping", data: PING_FOR_ANSWER });
  }

  /** @param {Call} call @param {MediaState} media @param {FailedStage} [stage] */
  async #onMedia(call, media, stage) {
    this.#emit("media", stage ? { media, stage } : { media });
    if (media === "failed") this.#sendStatus(media, stage ? { stage } : {});
    if (media !== "connected") return;
    const path = await call.path();
    if (this.#call === call) this.#react(() => this.#sendStatus(media, path ? { path } : {}));
  }

  /** Whether a relayed message belongs to the present pairing [P-4.8]. @param {Message} message */
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
    this.#setPartnerTyping(false);
    this.#emit("chat", { text: message.text, username: this.#partner.username });
  }

  /** @param {Message} message */
  #onTyping(message) {
    if (this.#isCurrent(message)) this.#setPartnerTyping(message.active);
  }

  /** @param {boolean} active */
  #setPartnerTyping(active) {
    if (active === this.#partnerIsTyping) return;
    this.#partnerIsTyping = active;
    this.#emit("typing", { active });
  }

  /** @param {Message} message */
  #onPartnerMedia(message) {
    if (this.#isCurrent(message)) this.#setPartnerMedia({ audio: message.audio, video: message.video });
  }

  /** @param {MediaSwitches} media */
  #setPartnerMedia(media) {
    const known = this.#partnerMedia;
    if (media.audio === known.audio && media.video === known.video) return;
    this.#partnerMedia = media;
    this.#emit("partnermedia", { ...media });
  }

  /** @param {Message} message */
  #onPeer(message) {
    const away = message.state === "away";
    if (!this.#isCurrent(message) || away === this.#partnerAway) return;
    this.#partnerAway = away;
    if (away) this.#setPartnerTyping(false);
    this.#emit("away", { away });
    if (!away) this.#call?.recover();
  }

  /** @param {Message} message */
  #onPartnerLeft(message) {
    if (!this.#isCurrent(message)) return;
    const partner = this.#partner;
    this.#endPairing();
    this.#move("connected");
    this.#afterLeave(message.reason);
    this.#emit("partnerleft", { partner, reason: message.reason });
  }

  /** @param {Message} message */
  #onWaitEnded(message) {
    if (message.roomId !== this.#room) return;
    this.#move("connected");
    this.#afterLeave(message.reason);
    this.#emit("partnerleft", { partner: null, reason: message.reason });
  }

  /**
   * A server that shuts down closes the connection next; then the client reconnects and joins again. If it stays, after
   * all, the client joins there.
   * @param {string} reason
   */
  #afterLeave(reason) {
    if (reason !== "server_shutdown") this.#wantsPartner = false;
    else {
      this.#setTimer("shutdown", Math.max(SHUTDOWN_TIMEOUT, this.#retryAfter), () => {
        if (this.#mayJoin()) this.#sendJoin();
      });
    }
  }

  /** After `next` the server lets the client wait again by itself [P-4.7]. @param {Message} message */
  #onLeaveDone(message) {
    if (message.from !== this.sessionId) return;
    const kind = this.#leaving;
    this.#leaving = null;
    if (kind === "next") return; // `ready` follows, and is still waited for
    this.#answered();
    if (this.#mayJoin()) this.#sendJoin();
  }

  /** @param {Message} message */
  #onError(message) {
    const { code, fatal } = message;
    const about = this.#resumption?.find(message.id);
    const ref = message.ref ?? about?.type;
    if (fatal) this.#retryAfter = 1000 * positive(message.retryAfterSeconds);
    if (this.#link === "resuming") {
      if (code === "resume_failed" || ref === "resume") this.#onResumeFailed();
    } else if (code === "rate_limited" && !fatal) this.#onRateLimited(message, about ?? null);
    else if (this.#leaving && this.#isAnswer(message, ref, this.#leaving)) this.#onLeaveRefused(message);
    else if (this.#isAnswer(message, ref, "join")) this.#onJoinRefused(message);
    else if (fatal || (code !== "wrong_state" && code !== "not_your_turn")) this.#emitRefused(message);
  }

  /**
   * Whether an error is about the last join, leave or next. A server that does not echo `id` gives the type alone.
   * @param {Message} message
   * @param {string|undefined} ref
   * @param {"join"|"leave"|"next"} kind
   */
  #isAnswer({ id }, ref, kind) {
    return ref === kind && (!isText(id) || id === this.#requestId);
  }

  /**
   * The message was dropped, and is sent again after the pause [P-7.7]. If it is not known which one it was, whatever
   * is still open then is sent. A regular ping needs nothing: the next one follows.
   * @param {Message} message
   * @param {Message|null} about  what was refused
   */
  #onRateLimited(message, about) {
    if (message.ref === "ping" && !about) return;
    const pause = 1000 * positive(message.retryAfterSeconds) || RATE_LIMITED_PAUSE;
    const isNew = about !== null || !this.#refused.some((each) => each.message === PROBE);
    if (about?.id === this.#requestId) this.#clearTimer("answer");
    if (isNew) this.#refused.push({ message: about ?? PROBE, due: Date.now() + pause });
    this.#emitRefused(message, about !== null);
    this.#scheduleRefused();
  }

  /** A later refusal does not delay the ones before it. */
  #scheduleRefused() {
    if (!this.#refused.length) return;
    const due = Math.min(...this.#refused.map((each) => each.due));
    this.#setTimer("again", Math.max(0, due - Date.now()), () => this.#sendRefused());
  }

  /** In the order in which they were sent first. */
  #sendRefused() {
    const now = Date.now();
    const due = this.#refused.filter((each) => each.due <= now).map((each) => each.message);
    this.#refused = this.#refused.filter((each) => each.due > now);
    due.sort((one, other) => Number(one.id ?? 0) - Number(other.id ?? 0));
    for (const each of due) this.#sendAgain(each);
    this.#scheduleRefused();
  }

  /** Sends a message that was refused, if it still matters; of a state, the present one. @param {Message} message */
  #sendAgain(message) {
    const { type, id } = message;
    if (type === "ping") this.#write(message);
    else if (type === "join" || type === "leave" || type === "next") {
      const wanted = type === "join" ? this.#mayJoin() : this.#leaving === type;
      if (!wanted || id !== this.#requestId) return;
      this.#write(message);
      this.#expectAnswer();
    } else if (!this.talking || Number(id) <= this.#idBefore) return;
    else if (type === "media") this.#sendMediaAnew();
    else if (type === "offer" || type === "answer") this.#call?.resendDescription();
    else if (type !== "typing" || message.active === this.#typing) this.#write(message);
  }

  /** "wrong_state": the partner has left first, and there is nothing left to leave [P-4.9]. @param {Message} message */
  #onLeaveRefused(message) {
    const kind = this.#leaving;
    this.#leaving = null;
    this.#answered();
    if (message.code === "wrong_state") {
      if (this.#mayJoin()) this.#sendJoin();
      return;
    }
    this.#wantsPartner = false;
    this.#emitRefused(message);
    if (kind === "next") this.#endWith("leave");
    else this.disconnect();
  }

  /** @param {Message} message */
  #onJoinRefused(message) {
    this.#answered();
    if (this.#state === "connected") this.#wantsPartner = false;
    this.#emitRefused(message);
  }

  /** @param {Message} message @param {boolean} [retrying] */
  #emitRefused({ code, message, ref, retryAfterSeconds }, retrying = false) {
    this.#emit("refused", {
      code,
      message: String(message ?? ""),
      ref: isText(ref) ? ref : undefined,
      retryAfterSeconds: positive(retryAfterSeconds) || undefined,
      retrying,
    });
  }

  /** @param {Message} message */
  #onGoaway(message) {
    this.#attempt = 0;
    this.#retryAfter = 1000 * positive(message.retryAfterSeconds);
  }

  /** @param {Message} message */
  #onPong({ data, heard }) {
    if (this.#link === "open") this.#resumption?.acknowledge(heard);
    if (data === PING_FOR_ANSWER) this.#call?.confirmAnswer();
    if (data === PING_FOR_ALL && this.#link === "open") this.#onReceivedProbe();
  }

  // --- state ----------------------------------------------------------------

  /** Closes what belongs to the present pairing, if there is one. */
  #endPairing() {
    this.#partner = null;
    this.#typing = false;
    this.#partnerAway = false;
    this.#setPartnerTyping(false);
    this.#setPartnerMedia(ALL_ON);
    this.#endSharing();
    this.#clearTimer("ice");
    this.#clearTimer("media");
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
   * Runs a reaction; the events that it emits are dispatched after it.
   * @template Result
   * @param {() => Result} action
   * @returns {Result}
   */
  #react(action) {
    if (this.#reacting) return action();
    this.#reacting = true;
    try {
      return action();
    } finally {
      this.#reacting = false;
      this.#dispatchPending();
    }
  }

  #dispatchPending() {
    for (let event = this.#pendingEvents.shift(); event; event = this.#pendingEvents.shift()) this.dispatchEvent(event);
  }

  /** @template {keyof CurhatEvents} Name @param {Name} name @param {CurhatEvents[Name]} detail */
  #emit(name, detail) {
    this.#pendingEvents.push(new CustomEvent(name, { detail }));
    if (!this.#reacting) this.#dispatchPending();
  }

  /** @param {string} text */
  #note(text) {
    this.#emit("log", { direction: "note", type: text, extra: "" });
  }

  /**
   * Logs the type and harmless fields of a message; never its payload.
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
