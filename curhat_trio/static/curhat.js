/**
 * curhat.v1 client: WebSocket signaling, the state machine and the peer
 * connection of one anonymous conversation. Nothing here touches a page; the
 * caller supplies the address and the local media and listens to events.
 *
 * Events (all CustomEvent; the fields are those of `detail`):
 *   statechange  {state, previous}
 *   connection   {phase: "connecting"|"open"|"retrying"|"closed", kind?, code?,
 *                 delaySeconds?, attempt?, rejoining?}
 *   paired       {partner}
 *   partnerleft  {partner, reason}
 *   remotestream {stream}                     stream is null when it is gone
 *   media        {media: "connecting"|"connected"|"interrupted"|"failed"}
 *   chat         {text, username}             from the partner
 *   refused      {code, message, ref, retryAfterSeconds}
 *   log          {direction: "in"|"out"|"note", type, extra}
 */

/** @typedef {"disconnected"|"connected"|"waiting"|"paired"|"negotiating"} State */
/** @typedef {{username?: string, topics?: string[], room?: string}} JoinOptions */
/** @typedef {{id: string, username: string, topics: string[], roomId: string,
 *             role: "offerer"|"answerer", polite: boolean}} Partner */
/** @typedef {{type: string, [field: string]: any}} Message */
/** @typedef {{framesDecoded: number, localCandidate: string, remoteCandidate: string,
 *             transport: string, rttMilliseconds: number|null}} StatsSummary */

export const SUBPROTOCOL = "curhat.v1";

/** Which state may follow which. @type {Record<State, State[]>} */
const TRANSITIONS = {
  disconnected: ["connected"],
  connected: ["waiting", "paired", "disconnected"],
  waiting: ["paired", "connected", "disconnected"],
  paired: ["negotiating", "connected", "disconnected"],
  negotiating: ["connected", "disconnected"],
};

/** Why a connection ended, by close code. @type {Record<number, string>} */
const CLOSE_KINDS = {
  1000: "ended",
  1001: "unreachable",
  1002: "protocol",
  1003: "protocol",
  1005: "unreachable",
  1006: "unreachable",
  1007: "protocol",
  1009: "protocol",
  1011: "internal",
  1012: "shutdown",
  1013: "busy",
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

/** Ends that are nobody's verdict on this client: no close frame came, or one of a proxy's that goes away. */
const PASSING_CODES = new Set([1001, 1005, 1006, 1011, 1012, 1013]);

const WELCOME_TIMEOUT = 15_000;
const STABLE_AFTER = 10_000;
const RETRY_FIRST = 1_000;
const RETRY_MAX = 30_000;
const RETRY_MIN_RATE_LIMITED = 10_000;
const DEFAULT_PING_SECONDS = 20;
const MISSED_PINGS = 2;
const FIRST_CONTACT_LIMIT = 25_000;
const DISCONNECTED_GRACE = 3_000;
const POLITE_EXTRA_GRACE = 2_000;
const RESTARTS_BEFORE_FIRST_CONTACT = 1;
const RESTARTS_AFTER_CONTACT = 3;

/**
 * Whether the client should come back by itself after this close code.
 * After any other the same attempt would end the same way.
 * @param {number} code
 */
export function shouldRetry(code) {
  return PASSING_CODES.has(code) || (code >= 4000 && code < 4500);
}

/**
 * Exponential backoff with jitter: between half and the whole of the doubled delay.
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
  const seen = new Map();
  for (const part of text.split(",")) {
    const topic = [...part.trim().replace(/\s+/g, " ")].slice(0, longest).join("").trimEnd();
    const key = topic.toLowerCase();
    if (topic && !seen.has(key)) seen.set(key, topic);
  }
  return [...seen.values()].slice(0, most);
}

/**
 * The peer connection of one pairing, with perfect negotiation. The side that
 * does not make the first offer keeps quiet until a remote offer has come.
 */
class Call {
  /** @type {RTCPeerConnection} */ pc;
  remoteStream = new MediaStream();

  #hooks;
  #polite;
  #localStream;
  #mayOffer;
  #tracksAdded = false;
  #makingOffer = false;
  #ignoreOffer = false;
  #answerPending = false;
  #endSent = false;
  #reached = false;
  #restarts = 0;
  #restartTimer = 0;
  #contactTimer = 0;
  #closed = false;

  /**
   * @param {RTCConfiguration} configuration
   * @param {{role: string, polite: boolean, localStream: MediaStream|null}} side
   * @param {{send: (message: Message) => void, media: (media: string) => void,
   *          remote: (stream: MediaStream) => void, note: (text: string) => void}} hooks
   */
  constructor(configuration, side, hooks) {
    this.pc = new RTCPeerConnection(configuration);
    this.#hooks = hooks;
    this.#polite = side.polite;
    this.#localStream = side.localStream;
    this.#mayOffer = side.role === "offerer";
    this.pc.onnegotiationneeded = () => this.#offer();
    this.pc.onicecandidate = (event) => this.#sendCandidate(event.candidate);
    this.pc.ontrack = (event) => this.#addRemoteTrack(event.track);
    this.pc.onconnectionstatechange = () => this.#connectionChanged();
  }

  /**
   * Adds our tracks on the offering side, which makes the browser ask for an
   * offer. Without any usable candidate no browser reports a failure, hence the limit.
   */
  begin() {
    this.#contactTimer = setTimeout(() => this.#hooks.media("failed"), FIRST_CONTACT_LIMIT);
    if (this.#mayOffer) this.#addTracks(true);
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#restartTimer);
    clearTimeout(this.#contactTimer);
    this.pc.onnegotiationneeded = null;
    this.pc.onicecandidate = null;
    this.pc.ontrack = null;
    this.pc.onconnectionstatechange = null;
    this.pc.close();
  }

  /** @param {RTCSessionDescriptionInit} description */
  async receiveDescription(description) {
    try {
      await this.#applyDescription(description);
    } catch (error) {
      this.#note(`${description.type} not applied`, error);
    } finally {
      if (description.type === "answer") this.#answerPending = false;
    }
  }

  /** @param {RTCIceCandidateInit} init  an empty candidate ends the candidates */
  async receiveCandidate(init) {
    const ended = !init.candidate;
    try {
      await (ended ? this.pc.addIceCandidate() : this.pc.addIceCandidate(init));
    } catch (error) {
      if (!this.#ignoreOffer && !ended) this.#note("candidate not applied", error);
    }
  }

  async #applyDescription(description) {
    const ready = !this.#makingOffer
      && (this.pc.signalingState === "stable" || this.#answerPending);
    const collision = description.type === "offer" && !ready;
    this.#ignoreOffer = !this.#polite && collision;
    if (this.#ignoreOffer) return;
    this.#answerPending = description.type === "answer";
    await this.pc.setRemoteDescription(description);
    this.#answerPending = false;
    if (description.type === "offer") await this.#answer();
  }

  async #answer() {
    if (this.#closed) return;
    this.#mayOffer = true;
    this.#addTracks(false);
    await this.pc.setLocalDescription();
    this.#sendDescription();
  }

  async #offer() {
    if (!this.#mayOffer || this.#closed) return;
    try {
      this.#makingOffer = true;
      await this.pc.setLocalDescription();
      this.#sendDescription();
    } catch (error) {
      this.#note("offer not made", error);
    } finally {
      this.#makingOffer = false;
    }
  }

  #sendDescription() {
    const description = this.pc.localDescription;
    if (this.#closed || !description) return;
    this.#endSent = false;
    const { type, sdp } = description;
    this.#hooks.send({ type, payload: { type, sdp } });
  }

  /** @param {RTCIceCandidate|null} candidate */
  #sendCandidate(candidate) {
    if (this.#closed) return;
    if (candidate && candidate.candidate) {
      const { candidate: text, sdpMid, sdpMLineIndex, usernameFragment } = candidate;
      const payload = { candidate: text, sdpMid, sdpMLineIndex };
      if (usernameFragment) payload.usernameFragment = usernameFragment;
      this.#hooks.send({ type: "candidate", payload });
    } else if (!this.#endSent) {
      this.#endSent = true;
      const sdpMid = this.pc.getTransceivers()[0]?.mid ?? "0";
      this.#hooks.send({ type: "candidate", payload: { candidate: "", sdpMid, sdpMLineIndex: 0 } });
    }
  }

  /**
   * Adds the local tracks once. A missing kind is asked for receive-only when
   * we offer; when we answer, the offer already has a place for it.
   * @param {boolean} offering
   */
  #addTracks(offering) {
    if (this.#tracksAdded) return;
    this.#tracksAdded = true;
    for (const kind of ["audio", "video"]) {
      const track = this.#localStream?.getTracks().find((each) => each.kind === kind);
      if (track) this.pc.addTrack(track, this.#localStream);
      else if (offering) this.pc.addTransceiver(kind, { direction: "recvonly" });
    }
  }

  /** @param {MediaStreamTrack} track */
  #addRemoteTrack(track) {
    this.remoteStream.addTrack(track);
    this.#hooks.remote(this.remoteStream);
  }

  #connectionChanged() {
    const state = this.pc.connectionState;
    clearTimeout(this.#restartTimer);
    if (state === "connected") this.#connected();
    else if (state === "disconnected") this.#interrupted(DISCONNECTED_GRACE);
    else if (state === "failed") this.#interrupted(0);
  }

  #connected() {
    clearTimeout(this.#contactTimer);
    this.#reached = true;
    this.#restarts = 0;
    this.#hooks.media("connected");
  }

  /** The polite side waits a little longer, so that both do not restart at once. */
  #interrupted(grace) {
    this.#hooks.media("interrupted");
    const wait = grace + (this.#polite ? POLITE_EXTRA_GRACE : 0);
    this.#restartTimer = setTimeout(() => this.#restart(), wait);
  }

  #restart() {
    const most = this.#reached ? RESTARTS_AFTER_CONTACT : RESTARTS_BEFORE_FIRST_CONTACT;
    if (this.#restarts >= most) {
      this.#hooks.media("failed");
      return;
    }
    this.#restarts += 1;
    this.#note("ICE restart");
    this.pc.restartIce();
  }

  #note(text, error) {
    if (!this.#closed) this.#hooks.note(error ? `${text}: ${error.name}` : text);
  }
}

export class Curhat extends EventTarget {
  #url;
  /** @type {State} */ #state = "disconnected";
  /** @type {WebSocket|null} */ #socket = null;
  /** @type {Call|null} */ #call = null;
  /** @type {Partner|null} */ #partner = null;
  /** @type {MediaStream|null} */ #localStream = null;
  /** @type {JoinOptions} */ #options = {};
  /** @type {"leave"|"next"|null} our leave or next that is not acknowledged yet */
  #leaving = null;
  #wantsPartner = false;
  #statusSent = false;
  #attempt = 0;
  #retryAfter = 0;
  #missedPings = 0;
  #timers = { retry: 0, welcome: 0, stable: 0, ping: 0 };

  /** @type {string|null} */ sessionId = null;
  /** @type {Record<string, number>} */ limits = {};
  /** @type {string[]|null} null: no server has told yet */ features = null;

  #handlers = {
    welcome: (message) => this.#onWelcome(message),
    ready: () => this.#onReady(),
    join: (message) => this.#onJoin(message),
    offer: (message) => this.#onDescription(message),
    answer: (message) => this.#onDescription(message),
    candidate: (message) => this.#onCandidate(message),
    chat: (message) => this.#onChat(message),
    leave: (message) => this.#onLeave(message),
    error: (message) => this.#onError(message),
    goaway: (message) => this.#onGoaway(message),
  };

  /** @param {{url: string}} settings  url: ws(s)://host/ws, without the name */
  constructor({ url }) {
    super();
    this.#url = url;
  }

  get state() { return this.#state; }
  get pc() { return this.#call?.pc ?? null; }
  get partner() { return this.#partner; }
  get remoteStream() { return this.#call?.remoteStream ?? null; }
  /** Asked for a partner and not been given up since. */
  get wantsPartner() { return this.#wantsPartner; }
  /** A connection exists, is being made, or will be tried again by itself. */
  get active() { return this.#socket !== null || this.#timers.retry !== 0; }
  /** Whether the server has an optional part of the protocol, as far as is known. @param {string} feature */
  has(feature) { return this.features?.includes(feature) ?? true; }
  get talking() { return this.#state === "paired" || this.#state === "negotiating"; }

  /** What the next pairing sends. @param {MediaStream|null} stream */
  setLocalStream(stream) {
    this.#localStream = stream;
  }

  /**
   * Looks for a partner, connecting first where necessary.
   * @param {JoinOptions} [options]
   */
  start(options = {}) {
    this.#options = options;
    this.#wantsPartner = true;
    if (this.#socket === null) this.#connect();
    else if (this.#state === "connected" && this.#leaving === null) this.#sendJoin();
  }

  /** Leaves the partner and looks for another one; in two steps where the server has no `next`. */
  next() {
    if (!this.talking) return;
    this.#wantsPartner = true;
    if (this.has("next")) this.#giveUp("next", { type: "next" });
    else this.#sendLeave();
  }

  /** Leaves the partner or the waiting room and stays connected. @param {string} [reason] */
  leave(reason) {
    this.#wantsPartner = false;
    if (this.talking || this.#state === "waiting") this.#sendLeave(reason);
  }

  /** Leaves and closes; nothing is retried. */
  disconnect() {
    this.#wantsPartner = false;
    this.#attempt = 0;
    this.#retryAfter = 0;
    this.#clearTimer("retry");
    if (this.talking || this.#state === "waiting") this.#send({ type: "leave" });
    this.#dropSocket(1000);
    this.#endPairing();
    this.#move("disconnected");
    this.#emit("connection", { phase: "closed", kind: "asked", code: 1000 });
  }

  /** Does not wait for the end of the current retry delay. */
  retryNow() {
    if (this.#timers.retry) this.#connect();
  }

  /** @param {string} text @returns {boolean} whether it was sent */
  chat(text) {
    const most = this.limits.chatCharacters ?? 2000;
    if (!this.talking || !this.has("chat") || !text.trim() || text.length > most) return false;
    return this.#send({ type: "chat", text });
  }

  /** @returns {Promise<StatsSummary|null>} */
  async stats() {
    const pc = this.pc;
    return pc ? summarize(await pc.getStats()) : null;
  }

  // --- connection -----------------------------------------------------------

  #connect() {
    this.#clearTimer("retry");
    this.#emit("connection", { phase: "connecting", attempt: this.#attempt });
    const query = new URLSearchParams({ username: this.#options.username ?? "" });
    const socket = new WebSocket(`${this.#url}?${query}`, [SUBPROTOCOL]);
    this.#socket = socket;
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#closed(event.code);
    this.#setTimer("welcome", WELCOME_TIMEOUT, () => this.#lost());
  }

  /** The server no longer answers: do not wait for the closing handshake. */
  #lost() {
    this.#dropSocket(4000);
    this.#closed(1006);
  }

  #dropSocket(code) {
    const socket = this.#socket;
    this.#socket = null;
    this.#clearConnectionTimers();
    if (!socket) return;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close(code);
  }

  /** @param {number} code */
  #closed(code) {
    this.#socket = null;
    this.#clearConnectionTimers();
    this.#note(`closed ${code}`);
    this.#endPairing();
    this.#move("disconnected");
    const kind = CLOSE_KINDS[code] ?? (shouldRetry(code) ? "unreachable" : "ended");
    if (shouldRetry(code)) this.#retry(code, kind);
    else this.#stopTrying(code, kind);
  }

  #retry(code, kind) {
    this.#attempt += 1;
    const least = Math.max(this.#retryAfter, code === 4003 ? RETRY_MIN_RATE_LIMITED : 0);
    this.#retryAfter = 0;
    const delay = least + retryDelay(this.#attempt);
    this.#setTimer("retry", delay, () => this.#connect());
    this.#emit("connection", {
      phase: "retrying", kind, code, attempt: this.#attempt,
      delaySeconds: delay / 1000, rejoining: this.#wantsPartner,
    });
  }

  #stopTrying(code, kind) {
    this.#attempt = 0;
    this.#retryAfter = 0;
    this.#wantsPartner = false;
    this.#emit("connection", { phase: "closed", kind, code });
  }

  /** @param {number} seconds */
  #schedulePing(seconds) {
    this.#setTimer("ping", seconds * 1000, () => {
      if (this.#missedPings >= MISSED_PINGS) {
        this.#lost();
        return;
      }
      this.#missedPings += 1;
      this.#send({ type: "ping" });
      this.#schedulePing(seconds);
    });
  }

  #setTimer(name, milliseconds, action) {
    this.#clearTimer(name);
    this.#timers[name] = setTimeout(() => {
      this.#timers[name] = 0;
      action();
    }, milliseconds);
  }

  #clearTimer(name) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = 0;
  }

  #clearConnectionTimers() {
    for (const name of ["welcome", "stable", "ping"]) this.#clearTimer(name);
  }

  // --- messages out ---------------------------------------------------------

  /**
   * A message over the server's limit would cost the connection, so it stays here.
   * @param {Message} message @returns {boolean} whether it was sent
   */
  #send(message) {
    if (this.#socket?.readyState !== 1) return false;
    const text = JSON.stringify(message);
    if (utf8Length(text) > (this.limits.messageBytes ?? Infinity)) {
      this.#note(`${message.type} too long for the server, not sent`);
      return false;
    }
    this.#socket.send(text);
    this.#log("out", message);
    return true;
  }

  #sendJoin() {
    const { username, topics, room } = this.#options;
    /** @type {Message} */
    const message = { type: "join" };
    if (username) message.username = username;
    if (topics?.length) message.topics = topics.slice(0, this.limits.topics ?? 5);
    if (room) message.room = room;
    this.#send(message);
  }

  #sendLeave(reason) {
    this.#giveUp("leave", reason ? { type: "leave", reason } : { type: "leave" });
  }

  /**
   * Ends the pairing here at once; the server's word follows.
   * @param {"leave"|"next"} kind
   * @param {Message} message
   */
  #giveUp(kind, message) {
    this.#leaving = kind;
    this.#send(message);
    this.#endPairing();
    this.#move("connected");
  }

  #sendStatus(media) {
    if (this.#statusSent || this.#state !== "negotiating") return;
    this.#statusSent = true;
    this.#send({ type: "status", media });
  }

  // --- messages in ----------------------------------------------------------

  /** @param {unknown} data */
  #receive(data) {
    const message = parseMessage(data);
    this.#missedPings = 0;
    if (!message) {
      this.#note("unreadable message ignored");
      return;
    }
    this.#log("in", message);
    if (Object.hasOwn(this.#handlers, message.type)) this.#handlers[message.type](message);
  }

  #onWelcome(message) {
    if (!this.#move("connected")) return;
    this.#clearTimer("welcome");
    this.sessionId = message.sessionId;
    this.limits = message.limits ?? {};
    this.features = message.features ?? [];
    const back = this.#attempt > 0;
    this.#leaving = null;
    this.#missedPings = 0;
    this.#setTimer("stable", STABLE_AFTER, () => { this.#attempt = 0; });
    this.#schedulePing(Math.max(5, Number(message.pingSeconds) || DEFAULT_PING_SECONDS));
    this.#emit("connection", { phase: "open", rejoining: back && this.#wantsPartner });
    if (this.#wantsPartner) this.#sendJoin();
  }

  #onReady() {
    if (this.#leaving === "leave") return;
    this.#leaving = null;
    if (!this.#move("waiting")) return;
    if (!this.#wantsPartner) this.#sendLeave();
  }

  #onJoin(message) {
    if (this.#leaving === "leave") return;
    this.#leaving = null;
    if (!this.#move("paired", () => { this.#partner = partnerOf(message); })) return;
    if (!this.#wantsPartner) this.#sendLeave();
    else this.#beginCall(message);
  }

  #beginCall(message) {
    this.#statusSent = false;
    this.#emit("paired", { partner: this.#partner });
    try {
      this.#call = this.#makeCall(message);
      this.#call.begin();
      this.#emit("media", { media: "connecting" });
    } catch (error) {
      this.#note(`no peer connection: ${error.name}`);
      this.#emit("media", { media: "failed" });
    }
  }

  #makeCall(message) {
    /** @type {RTCConfiguration} */
    const configuration = {
      iceServers: message.iceServers ?? [],
      iceTransportPolicy: message.iceTransportPolicy === "relay" ? "relay" : "all",
    };
    const { role, polite } = message;
    return new Call(configuration, { role, polite, localStream: this.#localStream }, {
      send: (out) => this.#sendSignal(out),
      media: (media) => this.#onMedia(media),
      remote: (stream) => this.#emit("remotestream", { stream }),
      note: (text) => this.#note(text),
    });
  }

  /** @param {Message} message */
  #sendSignal(message) {
    if (!this.talking || !this.#send(message)) return;
    if (message.type === "offer" && this.#state === "paired") this.#move("negotiating");
  }

  #onMedia(media) {
    if (media === "connected" || media === "failed") this.#sendStatus(media);
    this.#emit("media", { media });
  }

  /** Whether a relayed message belongs to the pairing we are in. */
  #isCurrent(message) {
    return this.#partner !== null && message.roomId === this.#partner.roomId;
  }

  #onDescription(message) {
    if (!this.#isCurrent(message) || !this.#call) return;
    if (message.type === "offer" && this.#state === "paired") this.#move("negotiating");
    this.#call.receiveDescription({ type: message.type, sdp: message.payload?.sdp });
  }

  #onCandidate(message) {
    if (!this.#isCurrent(message) || !message.payload) return;
    this.#call?.receiveCandidate(message.payload);
  }

  #onChat(message) {
    if (!this.#isCurrent(message) || message.from === this.sessionId) return;
    this.#emit("chat", { text: String(message.text), username: this.#partner.username });
  }

  #onLeave(message) {
    if (this.#leaving) {
      if (message.from === this.sessionId) this.#leaveDone();
      return;
    }
    const waiting = this.#state === "waiting" && message.from === this.sessionId;
    if (!this.#isCurrent(message) && !waiting) return;
    const partner = this.#partner;
    // A server which restarts closes the connection next; then we come back and join again.
    if (message.reason !== "server_shutdown") this.#wantsPartner = false;
    this.#endPairing();
    this.#move("connected");
    this.#emit("partnerleft", { partner, reason: message.reason });
  }

  /** After `leave` nothing follows by itself; after `next` the server has joined us again. */
  #leaveDone() {
    const joinAgain = this.#leaving === "leave" && this.#wantsPartner;
    this.#leaving = null;
    if (joinAgain) this.#sendJoin();
  }

  #onError(message) {
    const { code, ref, fatal } = message;
    if (message.retryAfterSeconds && fatal) this.#retryAfter = message.retryAfterSeconds * 1000;
    if (ref === this.#leaving && this.#leaving) this.#onLeaveRefused(message);
    else if (ref === "join") this.#onJoinRefused(message);
    else if (fatal || !["wrong_state", "not_your_turn"].includes(code)) this.#refused(message);
  }

  /** "wrong_state": the partner was faster and there is nothing left to leave. */
  #onLeaveRefused(message) {
    const kind = this.#leaving;
    this.#leaving = null;
    if (message.code === "wrong_state") {
      if (this.#wantsPartner) this.#sendJoin();
      return;
    }
    this.#wantsPartner = false;
    this.#refused(message);
    if (kind === "next") this.#sendLeaveQuietly();
    else this.disconnect();
  }

  #sendLeaveQuietly() {
    this.#leaving = "leave";
    this.#send({ type: "leave" });
  }

  #onJoinRefused(message) {
    if (this.#state === "connected") this.#wantsPartner = false;
    this.#refused(message);
  }

  #refused({ code, message, ref, retryAfterSeconds }) {
    this.#emit("refused", { code, message, ref, retryAfterSeconds });
  }

  #onGoaway(message) {
    this.#attempt = 0;
    this.#retryAfter = Math.max(0, Number(message.retryAfterSeconds) || 0) * 1000;
  }

  // --- state ----------------------------------------------------------------

  /** Closes what belongs to the present pairing, if there is one. */
  #endPairing() {
    this.#partner = null;
    if (!this.#call) return;
    this.#call.close();
    this.#call = null;
    this.#emit("remotestream", { stream: null });
  }

  /**
   * @param {State} state
   * @param {() => void} [before] done before anybody hears of the new state
   * @returns {boolean} false if the machine does not allow it
   */
  #move(state, before) {
    const previous = this.#state;
    if (state === previous) return state !== "paired";
    if (!TRANSITIONS[previous].includes(state)) {
      this.#note(`${previous} to ${state} not allowed, ignored`);
      return false;
    }
    before?.();
    this.#state = state;
    this.#emit("statechange", { state, previous });
    return true;
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #note(text) {
    this.#emit("log", { direction: "note", type: text, extra: "" });
  }

  /** Only the type and harmless words of a message; never its payload. */
  #log(direction, message) {
    const extra = message.code ?? message.reason ?? message.media ?? message.role ?? "";
    this.#emit("log", { direction, type: message.type, extra: String(extra) });
  }
}

const utf8Length = (text) => new TextEncoder().encode(text).length;

/** @param {unknown} data @returns {Message|null} */
function parseMessage(data) {
  if (typeof data !== "string") return null;
  try {
    const message = JSON.parse(data);
    return typeof message?.type === "string" ? message : null;
  } catch {
    return null;
  }
}

/** @param {Message} message @returns {Partner} */
function partnerOf(message) {
  return {
    id: message.from,
    username: String(message.username || ""),
    topics: Array.isArray(message.topics) ? message.topics.map(String) : [],
    roomId: message.roomId,
    role: message.role,
    polite: message.polite,
  };
}

/** @param {RTCStatsReport} report @returns {StatsSummary} */
function summarize(report) {
  const entries = [...report.values()];
  const video = entries.find((each) => each.type === "inbound-rtp" && each.kind === "video");
  const pair = selectedPair(report, entries);
  const local = pair && report.get(pair.localCandidateId);
  const remote = pair && report.get(pair.remoteCandidateId);
  const rtt = pair?.currentRoundTripTime;
  return {
    framesDecoded: video?.framesDecoded ?? 0,
    localCandidate: local?.candidateType ?? "",
    remoteCandidate: remote?.candidateType ?? "",
    transport: local?.relayProtocol ?? local?.protocol ?? "",
    rttMilliseconds: typeof rtt === "number" ? Math.round(rtt * 1000) : null,
  };
}

/** Browsers name the pair in use either in the transport or in the pair itself. */
function selectedPair(report, entries) {
  const transport = entries.find((each) => each.type === "transport" && each.selectedCandidatePairId);
  if (transport) return report.get(transport.selectedCandidatePairId);
  const pairs = entries.filter((each) => each.type === "candidate-pair");
  return pairs.find((each) => each.selected)
    ?? pairs.find((each) => each.nominated && each.state === "succeeded");
}
