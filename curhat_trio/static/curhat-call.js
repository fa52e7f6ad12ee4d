/**
 * The RTCPeerConnection of one pairing: perfect negotiation, trickled candidates, renegotiation when tracks change,
 * and ICE restarts. It knows nothing of sockets and sessions: what it sends goes through `hooks.send`.
 *
 * The first audio and the first video of a call are microphone and camera, a second video is the partner's screen, a
 * second audio its sound.
 */

/** @import { CallStats, FailedStage, MediaState } from "./curhat.js" */
/** @import { Message } from "./curhat-wire.js" */

/**
 * @typedef {object} Side
 * @property {"offerer"|"answerer"} role
 * @property {boolean} polite
 * @property {MediaStream|null} localStream
 */

/**
 * @typedef {object} Hooks
 * @property {(message: Message) => void} send          sends to the partner
 * @property {() => boolean} reachable                  whether what is sent now can arrive
 * @property {(media: MediaState, stage?: FailedStage) => void} media  audio and video connect, or fail to
 * @property {() => void} unanswered                    the partner has not answered an offer in time
 * @property {(stream: MediaStream) => void} remote     camera and microphone came, changed or went
 * @property {(stream: MediaStream|null) => void} screen  the partner's screen came, changed or went
 * @property {(text: string) => void} note              something for the log
 */

/** @typedef {"audio"|"video"} Kind */
/** @typedef {{at: number, sent: number, received: number, packets: number, lost: number}} Sample */

/** @type {Kind[]} */
const KINDS = ["audio", "video"];

const FIRST_CONTACT_LIMIT = 25_000;
const DISCONNECTED_GRACE = 3_000;
const POLITE_EXTRA_GRACE = 2_000;
/** How long an ICE restart may take, and how long an answer. */
const RESTART_LIMIT = 15_000;
const ANSWER_LIMIT = 20_000;
/** After a negotiation another one waits for a moment: some libraries are still busy with the first (simple-peer). */
const NEGOTIATION_PAUSE = 100;
const RESTARTS_BEFORE_FIRST_CONTACT = 1;
const RESTARTS_AFTER_CONTACT = 3;

/** What counts as good or fair: at most this round trip in milliseconds, and this part of packets lost. */
const GOOD = { rtt: 250, lost: 0.02 };
const FAIR = { rtt: 500, lost: 0.08 };

/** One call. The side that does not make the first offer sends nothing until one was received. */
export class Call {
  /** @type {RTCPeerConnection} */ pc;
  remoteStream = new MediaStream();
  /** @type {MediaStream|null} */ remoteScreen = null;

  /** @type {Hooks} */ #hooks;
  /** @type {boolean} */ #polite;
  /** @type {MediaStream|null} */ #localStream;
  /** @type {MediaStream|null} */ #screen = null;
  /** For the own screen and its sound. @type {Map<Kind, RTCRtpTransceiver>} */ #screenTransceivers = new Map();
  /** @type {boolean} */ #mayOffer;
  /** Whether the own tracks were added. */ #tracksAdded = false;
  /** Kinds of which a track was sent. @type {Set<string>} */ #used = new Set();
  #makingOffer = false;
  /** The polite side's offer, not yet applied. @type {RTCSessionDescriptionInit|null} */ #proposal = null;
  /** How many offers were received. */ #offersReceived = 0;
  #ignoreOffer = false;
  #answerPending = false;
  /** The last answer may not have reached the server. */ #answerUnconfirmed = false;
  #endSent = false;
  #foundCandidate = false;
  #reached = false;
  #restarts = 0;
  #restartTimer = 0;
  #contactTimer = 0;
  #answerTimer = 0;
  /** Until the next own offer. */ #offerTimer = 0;
  /** When the last negotiation ended, by `performance.now()`. */ #negotiatedAt = -Infinity;
  #closed = false;
  /** @type {Sample|null} */ #sample = null;

  /**
   * @param {RTCConfiguration} configuration
   * @param {Side} side
   * @param {Hooks} hooks
   */
  constructor(configuration, side, hooks) {
    this.pc = new RTCPeerConnection(configuration);
    this.#hooks = hooks;
    this.#polite = side.polite;
    this.#localStream = side.localStream;
    this.#mayOffer = side.role === "offerer";
    this.pc.onnegotiationneeded = () => this.#offerSoon();
    this.pc.onicecandidate = (event) => this.#sendCandidate(event.candidate);
    this.pc.onconnectionstatechange = () => this.#connectionChanged();
  }

  /**
   * Adds the own tracks on the offering side, which makes the browser fire `negotiationneeded`. Without any usable
   * candidate no browser reports a failure, hence the limit.
   */
  begin() {
    this.#contactTimer = setTimeout(() => this.#fail(), FIRST_CONTACT_LIMIT);
    if (this.#mayOffer) this.#addTracks(true);
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#restartTimer);
    clearTimeout(this.#contactTimer);
    clearTimeout(this.#answerTimer);
    this.#cancelOffer();
    this.pc.onnegotiationneeded = null;
    this.pc.onicecandidate = null;
    this.pc.onconnectionstatechange = null;
    this.pc.close();
  }

  // --- descriptions -----------------------------------------------------------

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
    try {
      await (init.candidate ? this.pc.addIceCandidate(init) : this.pc.addIceCandidate());
    } catch (error) {
      if (!this.#ignoreOffer && init.candidate) this.#note("candidate not applied", error);
    }
  }

  /** The server has received the last answer. */
  confirmAnswer() {
    this.#answerUnconfirmed = false;
  }

  /** The last messages may have been lost: sends again whatever is still open. */
  resend() {
    if (this.#makingOffer || this.#closed || this.resendDescription()) return;
    if (this.pc.connectionState === "connecting") this.#restartAnew();
    else this.recover();
  }

  /** Sends again the offer that is not answered, or the answer that may not have arrived. @returns {boolean} whether */
  resendDescription() {
    const { signalingState, localDescription } = this.pc;
    const unanswered = signalingState === "have-local-offer";
    const unconfirmed = this.#answerUnconfirmed && localDescription?.type === "answer";
    if (this.#proposal) this.#send(this.#proposal);
    else if (unanswered || unconfirmed) this.#send(localDescription);
    return this.#proposal !== null || unanswered || unconfirmed;
  }

  /** @param {RTCSessionDescriptionInit} description */
  async #applyDescription(description) {
    const ready = !this.#makingOffer
      && (this.pc.signalingState === "stable" || this.#answerPending);
    const collision = description.type === "offer" && !ready;
    this.#ignoreOffer = !this.#polite && collision;
    if (this.#ignoreOffer) return;
    // Once the description is settled, the browser asks again for what is still to be offered.
    const wasDue = this.#cancelOffer();
    this.#answerPending = description.type === "answer";
    try {
      await this.#setRemote(description);
      this.#answerPending = false;
      if (description.type === "offer") await this.#answer();
      this.#negotiatedAt = performance.now();
      this.#findRemoteTracks();
    } catch (error) {
      if (wasDue) this.#offerSoon();
      throw error;
    }
  }

  /**
   * The partner's offer voids the own proposal. An answer accepts it: then both are applied in one go, and no other
   * message of the partner comes between.
   * @param {RTCSessionDescriptionInit} description
   */
  async #setRemote(description) {
    const accepted = description.type === "answer" ? this.#proposal : null;
    this.#proposal = null;
    clearTimeout(this.#answerTimer);
    if (description.type === "offer") this.#offersReceived += 1;
    const local = accepted && this.#setLocal(accepted);
    await Promise.all([local, this.pc.setRemoteDescription(description)]);
  }

  /** @param {RTCSessionDescriptionInit} [description]  without it: the offer or answer that is due */
  async #setLocal(description) {
    this.#endSent = false;
    await this.pc.setLocalDescription(description);
  }

  async #answer() {
    if (this.#closed) return;
    this.#mayOffer = true;
    this.#addTracks(false);
    await this.#setLocal();
    this.#send(this.pc.localDescription);
  }

  #offerSoon() {
    this.#cancelOffer();
    const wait = this.#negotiatedAt + NEGOTIATION_PAUSE - performance.now();
    if (wait <= 0) this.#offer();
    else {
      this.#offerTimer = setTimeout(() => {
        this.#offerTimer = 0;
        this.#offer();
      }, wait);
    }
  }

  /** @returns {boolean} whether one was about to be made */
  #cancelOffer() {
    const wasDue = this.#offerTimer !== 0;
    clearTimeout(this.#offerTimer);
    this.#offerTimer = 0;
    return wasDue;
  }

  async #offer() {
    if (!this.#mayOffer || this.#closed) return;
    try {
      this.#makingOffer = true;
      await (this.#polite ? this.#sendProposal() : this.#sendOffer());
    } catch (error) {
      this.#note("offer not made", error);
    } finally {
      this.#makingOffer = false;
    }
  }

  async #sendOffer() {
    await this.#setLocal();
    this.#send(this.pc.localDescription);
  }

  /**
   * The polite side applies its offer only when that is answered, and forgets it when a partner's comes first. The
   * browser asks for another when an answer, of either side, leaves something to negotiate, and not before. So nothing
   * is ever rolled back: Chromium shows no new frames of a video that was in an offer rolled back.
   */
  async #sendProposal() {
    const received = this.#offersReceived;
    const offer = await this.pc.createOffer();
    if (received !== this.#offersReceived) return;
    this.#proposal = offer;
    this.#send(offer);
  }

  /** @param {RTCSessionDescriptionInit|null} description */
  #send(description) {
    if (this.#closed || !description) return;
    const { type, sdp } = description;
    this.#answerUnconfirmed = type === "answer";
    if (type === "offer") this.#expectAnswer();
    this.#hooks.send({ type, payload: { type, sdp } });
  }

  #expectAnswer() {
    clearTimeout(this.#answerTimer);
    this.#answerTimer = setTimeout(() => {
      if (this.#hooks.reachable()) this.#hooks.unanswered();
      else this.#expectAnswer();
    }, ANSWER_LIMIT);
  }

  /** @param {RTCIceCandidate|null} candidate */
  #sendCandidate(candidate) {
    if (this.#closed) return;
    if (candidate && candidate.candidate) {
      this.#foundCandidate = true;
      const { candidate: text, sdpMid, sdpMLineIndex, usernameFragment } = candidate;
      /** @type {RTCIceCandidateInit} */
      const payload = { candidate: text, sdpMid, sdpMLineIndex };
      if (usernameFragment) payload.usernameFragment = usernameFragment;
      this.#hooks.send({ type: "candidate", payload });
    } else if (!this.#endSent) {
      this.#endSent = true;
      const sdpMid = this.pc.getTransceivers()[0]?.mid ?? "0";
      this.#hooks.send({ type: "candidate", payload: { candidate: "", sdpMid, sdpMLineIndex: 0 } });
    }
  }

  // --- the own tracks ---------------------------------------------------------------

  /** Replaces tracks of the same kind; new and missing ones are negotiated. @param {MediaStream|null} stream */
  setLocalStream(stream) {
    this.#localStream = stream;
    if (this.#tracksAdded) for (const kind of KINDS) this.#addTrack(kind, false);
  }

  /** @param {MediaStream|null} stream  sent beside camera and microphone */
  setScreen(stream) {
    this.#screen = stream;
    if (this.#tracksAdded) this.#addScreen();
  }

  /**
   * Does so once. A missing kind is offered receive-only; when answering, the offer already has a transceiver for it.
   * @param {boolean} offering
   */
  #addTracks(offering) {
    if (this.#tracksAdded) return;
    this.#tracksAdded = true;
    for (const kind of KINDS) this.#addTrack(kind, offering);
    this.#addScreen();
  }

  /** @param {Kind} kind @param {boolean} offering */
  #addTrack(kind, offering) {
    const track = this.#localStream?.getTracks().find((each) => each.kind === kind) ?? null;
    const transceiver = this.#transceiverOf(kind);
    if (transceiver && this.#used.has(kind)) this.#replaceTrack(transceiver, track, this.#localStream, true);
    else if (track && this.#localStream) this.pc.addTrack(track, this.#localStream);
    else if (offering) this.pc.addTransceiver(kind, { direction: "recvonly" });
    if (track) this.#used.add(kind);
  }

  /** Transceivers of their own, sending only: those of camera and microphone are never used for a screen. */
  #addScreen() {
    for (const kind of KINDS) {
      const track = this.#screen?.getTracks().find((each) => each.kind === kind) ?? null;
      const transceiver = this.#screenTransceivers.get(kind);
      if (transceiver) this.#replaceTrack(transceiver, track, this.#screen, false);
      else if (track && this.#screen) {
        const streams = [this.#screen];
        this.#screenTransceivers.set(kind, this.pc.addTransceiver(track, { direction: "sendonly", streams }));
      }
    }
  }

  /**
   * Sends another track, or none, on a transceiver that was used before.
   * @param {RTCRtpTransceiver} transceiver
   * @param {MediaStreamTrack|null} track
   * @param {MediaStream|null} stream
   * @param {boolean} receives
   */
  #replaceTrack(transceiver, track, stream, receives) {
    const sends = transceiver.direction === "sendrecv" || transceiver.direction === "sendonly";
    transceiver.sender.replaceTrack(track).catch((error) => this.#note("track not replaced", error));
    if (sends === (track !== null)) return;
    if (track && stream) transceiver.sender.setStreams?.(stream);
    if (track) transceiver.direction = receives ? "sendrecv" : "sendonly";
    else transceiver.direction = receives ? "recvonly" : "inactive";
  }

  /** The transceiver of the microphones or the cameras of both sides. @param {Kind} kind */
  #transceiverOf(kind) {
    return this.pc.getTransceivers().find((each) => each !== this.#screenTransceivers.get(kind)
      && each.receiver.track.kind === kind && each.direction !== "stopped");
  }

  // --- the partner's tracks -------------------------------------------------------

  /** What is received, as the last answer settled it. */
  #findRemoteTracks() {
    if (this.#closed) return;
    const receiving = this.pc.getTransceivers().filter((each) => each.currentDirection?.includes("recv"));
    const transceivers = KINDS.map((kind) => this.#transceiverOf(kind));
    const tracks = receiving.filter((each) => transceivers.includes(each)).map((each) => each.receiver.track);
    const others = receiving.filter((each) => !transceivers.includes(each)).map((each) => each.receiver.track);
    const screen = KINDS.flatMap((kind) => others.find((each) => each.kind === kind) ?? []);
    if (this.#setRemoteTracks(tracks)) this.#hooks.remote(this.remoteStream);
    this.#setRemoteScreen(screen.some((each) => each.kind === "video") ? screen : []);
  }

  /** @param {MediaStreamTrack[]} tracks @returns {boolean} whether anything has changed */
  #setRemoteTracks(tracks) {
    const had = this.remoteStream.getTracks();
    const gone = had.filter((each) => !tracks.includes(each));
    const fresh = tracks.filter((each) => !had.includes(each));
    for (const track of gone) this.remoteStream.removeTrack(track);
    for (const track of fresh) this.remoteStream.addTrack(track);
    return gone.length + fresh.length > 0;
  }

  /** @param {MediaStreamTrack[]} tracks */
  #setRemoteScreen(tracks) {
    const had = this.remoteScreen?.getTracks() ?? [];
    if (had.length === tracks.length && tracks.every((each) => had.includes(each))) return;
    this.remoteScreen = tracks.length ? new MediaStream(tracks) : null;
    this.#hooks.screen(this.remoteScreen);
  }

  // --- the connection between the two browsers --------------------------------------

  /** Fresh credentials, for the next restart. @param {RTCConfiguration} configuration */
  setServers(configuration) {
    try {
      this.pc.setConfiguration({ ...this.pc.getConfiguration(), ...configuration });
    } catch (error) {
      this.#note("ICE servers not accepted", error);
    }
  }

  /** The own network has changed. */
  networkChanged() {
    if (this.#reached) this.#restartAnew();
  }

  /** The partner can be reached again: restarts ICE if the connection has failed meanwhile. */
  recover() {
    if (["disconnected", "failed"].includes(this.pc.connectionState)) this.#restartAnew();
  }

  #restartAnew() {
    this.#restarts = 0;
    this.#restart();
  }

  #connectionChanged() {
    const state = this.pc.connectionState;
    if (state === "connected") this.#connected();
    else if (state === "disconnected") this.#interrupted(DISCONNECTED_GRACE);
    else if (state === "failed") this.#interrupted(0);
  }

  #connected() {
    clearTimeout(this.#contactTimer);
    clearTimeout(this.#restartTimer);
    this.#reached = true;
    this.#restarts = 0;
    this.#hooks.media("connected");
  }

  /**
   * The polite side waits a little longer, so that both do not restart at once.
   * @param {number} grace
   */
  #interrupted(grace) {
    this.#hooks.media("interrupted");
    const wait = grace + (this.#polite ? POLITE_EXTRA_GRACE : 0);
    this.#restartIn(wait);
  }

  /** @param {number} milliseconds */
  #restartIn(milliseconds) {
    clearTimeout(this.#restartTimer);
    this.#restartTimer = setTimeout(() => {
      if (this.pc.connectionState !== "connected") this.#restart();
    }, milliseconds);
  }

  /**
   * No restart is made while its offer can't arrive: `recover` makes it later. One that leads to nothing, because the
   * partner does not answer for instance, is followed by another, and the last one by a failure.
   */
  #restart() {
    clearTimeout(this.#restartTimer);
    if (this.#closed || !this.#hooks.reachable()) return;
    const most = this.#reached ? RESTARTS_AFTER_CONTACT : RESTARTS_BEFORE_FIRST_CONTACT;
    if (this.#restarts >= most) {
      this.#fail();
      return;
    }
    this.#restarts += 1;
    this.#note("ICE restart");
    this.pc.restartIce();
    this.#restartIn(RESTART_LIMIT);
  }

  #fail() {
    this.#hooks.media("failed", this.#failedStage());
  }

  /** @returns {FailedStage} how far it came */
  #failedStage() {
    if (this.#reached) return "lost";
    if (!this.#foundCandidate) return "gathering";
    const { iceConnectionState } = this.pc;
    return iceConnectionState === "connected" || iceConnectionState === "completed" ? "dtls" : "checking";
  }

  // --- figures ------------------------------------------------------------------------

  /** @returns {Promise<CallStats>} the rates are those since the last call of this function */
  async stats() {
    const report = await this.pc.getStats();
    const at = performance.now();
    const { stats, sample } = summarize(report, at, this.#sample, this.pc.connectionState === "connected");
    this.#sample = sample;
    return stats;
  }

  /** @returns {Promise<string>} the type of the local candidate in use: host, srflx, prflx, relay; empty: not known */
  async path() {
    try {
      return selectedCandidates(await this.pc.getStats()).local?.candidateType ?? "";
    } catch {
      return "";
    }
  }

  /** @param {string} text @param {unknown} [error] */
  #note(text, error) {
    if (this.#closed) return;
    this.#hooks.note(error instanceof Error ? `${text}: ${error.name}` : text);
  }
}

/**
 * @param {RTCStatsReport} report
 * @param {number} at  milliseconds
 * @param {Sample|null} before
 * @param {boolean} connected
 * @returns {{stats: CallStats, sample: Sample}}
 */
function summarize(report, at, before, connected) {
  const { pair, local, remote } = selectedCandidates(report);
  const inbound = entriesOf(report).filter((each) => each.type === "inbound-rtp");
  const rtt = pair?.currentRoundTripTime;
  const rttMilliseconds = typeof rtt === "number" ? Math.round(rtt * 1000) : null;
  const sample = {
    at,
    sent: pair?.bytesSent ?? 0,
    received: pair?.bytesReceived ?? 0,
    packets: sum(inbound, "packetsReceived"),
    lost: sum(inbound, "packetsLost"),
  };
  const packetsLost = lossBetween(before, sample);
  /** @type {CallStats} */
  const stats = {
    path: pathOf(local, remote),
    localCandidate: local?.candidateType ?? "",
    remoteCandidate: remote?.candidateType ?? "",
    transport: local?.relayProtocol ?? local?.protocol ?? "",
    rttMilliseconds,
    sendKbps: rate(before, sample, "sent"),
    receiveKbps: rate(before, sample, "received"),
    packetsLost,
    framesDecoded: sum(inbound.filter((each) => each.kind === "video"), "framesDecoded"),
    quality: connected ? qualityOf(rttMilliseconds, packetsLost) : "unknown",
  };
  return { stats, sample };
}

/** @param {RTCStatsReport} report @returns {any[]} */
function entriesOf(report) {
  /** @type {any[]} */
  const entries = [];
  report.forEach((each) => entries.push(each));
  return entries;
}

/** Browsers name the pair in use either in the transport or in the pair itself. @param {RTCStatsReport} report */
function selectedCandidates(report) {
  const entries = entriesOf(report);
  const transport = entries.find((each) => each.type === "transport" && each.selectedCandidatePairId);
  const pairs = entries.filter((each) => each.type === "candidate-pair");
  const pair = pairs.find((each) => each.id === transport?.selectedCandidatePairId)
    ?? pairs.find((each) => each.selected)
    ?? pairs.find((each) => each.nominated && each.state === "succeeded");
  const find = (/** @type {string|undefined} */ id) => entries.find((each) => id && each.id === id);
  return { pair, local: find(pair?.localCandidateId), remote: find(pair?.remoteCandidateId) };
}

/** @param {any} local @param {any} remote @returns {CallStats["path"]} */
function pathOf(local, remote) {
  if (!local || !remote) return "unknown";
  return [local, remote].some((each) => each.candidateType === "relay") ? "relay" : "direct";
}

/** @param {any[]} entries @param {string} field @returns {number} */
function sum(entries, field) {
  return entries.reduce((total, each) => total + (each[field] ?? 0), 0);
}

/** In kilobits a second. @param {Sample|null} before @param {Sample} now @param {"sent"|"received"} field */
function rate(before, now, field) {
  if (!before || now.at <= before.at) return 0;
  return Math.max(0, Math.round((8 * (now[field] - before[field])) / (now.at - before.at)));
}

/** @param {Sample|null} before @param {Sample} now @returns {number|null} */
function lossBetween(before, now) {
  if (!before) return null;
  const lost = Math.max(0, now.lost - before.lost);
  const packets = Math.max(0, now.packets - before.packets);
  return lost + packets ? lost / (lost + packets) : null;
}

/** @param {number|null} rtt @param {number|null} lost @returns {CallStats["quality"]} */
function qualityOf(rtt, lost) {
  if (rtt === null && lost === null) return "unknown";
  const within = (/** @type {typeof GOOD} */ most) => (rtt ?? 0) <= most.rtt && (lost ?? 0) <= most.lost;
  if (within(GOOD)) return "good";
  return within(FAIR) ? "fair" : "poor";
}
