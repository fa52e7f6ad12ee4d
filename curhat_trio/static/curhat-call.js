/**
 * The RTCPeerConnection of one pairing: perfect negotiation, trickled candidates, renegotiation when tracks change,
 * and ICE restarts. It knows nothing of sockets and sessions: what is to be said goes through `hooks.send`.
 *
 * The first audio and the first video of a call are microphone and camera, a second video is the partner's screen, a
 * second audio its sound.
 */

/** @typedef {import("./curhat.js").CallStats} CallStats */
/** @typedef {import("./curhat.js").MediaState} MediaState */
/** @typedef {import("./curhat.js").FailedStage} FailedStage */
/** @typedef {import("./curhat.js").Message} Message */

/**
 * @typedef {object} Side
 * @property {"offerer"|"answerer"} role
 * @property {boolean} polite
 * @property {MediaStream|null} localStream
 */

/**
 * @typedef {object} Hooks
 * @property {(message: Message) => void} send          says something to the partner
 * @property {() => boolean} reachable                  whether what is sent now can arrive
 * @property {(media: MediaState, stage?: FailedStage) => void} media
 * @property {(stream: MediaStream) => void} remote     camera and microphone came, changed or went
 * @property {(stream: MediaStream|null) => void} screen
 * @property {(text: string) => void} note
 */

/** @typedef {"audio"|"video"} Kind */
/** @typedef {{at: number, sent: number, received: number, packets: number, lost: number}} Sample */

/** @type {Kind[]} */
const KINDS = ["audio", "video"];

const FIRST_CONTACT_LIMIT = 25_000;
const DISCONNECTED_GRACE = 3_000;
const POLITE_EXTRA_GRACE = 2_000;
const RESTARTS_BEFORE_FIRST_CONTACT = 1;
const RESTARTS_AFTER_CONTACT = 3;

/** What makes a line good or fair: at most so many milliseconds round trip, and so large a part lost. */
const GOOD = { rtt: 250, lost: 0.02 };
const FAIR = { rtt: 500, lost: 0.08 };

/** The side that does not make the first offer keeps quiet until one has come. */
export class Call {
  /** @type {RTCPeerConnection} */ pc;
  remoteStream = new MediaStream();
  /** @type {MediaStream|null} */ remoteScreen = null;

  /** @type {Hooks} */ #hooks;
  /** @type {boolean} */ #polite;
  /** @type {MediaStream|null} */ #localStream;
  /** @type {MediaStream|null} */ #screen = null;
  /** Where our screen and its sound are. @type {Map<Kind, RTCRtpTransceiver>} */ #screenPlaces = new Map();
  /** @type {boolean} */ #mayOffer;
  /** Whether our tracks have their places. */ #placed = false;
  /** Kinds for which we have sent. @type {Set<string>} */ #used = new Set();
  #makingOffer = false;
  /** What the polite side has offered and not yet set. @type {RTCSessionDescriptionInit|null} */ #proposal = null;
  /** Counts the partner's offers. */ #offersHeard = 0;
  #ignoreOffer = false;
  #answerPending = false;
  /** Our last answer may not have reached the server. */ #answerUnproved = false;
  #endSent = false;
  #foundCandidate = false;
  #reached = false;
  #restarts = 0;
  #restartTimer = 0;
  #contactTimer = 0;
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
    this.pc.onnegotiationneeded = () => this.#offer();
    this.pc.onicecandidate = (event) => this.#sendCandidate(event.candidate);
    this.pc.onconnectionstatechange = () => this.#connectionChanged();
  }

  /**
   * Gives our tracks their places on the offering side, which makes the browser ask for an
   * offer. Without any usable candidate no browser reports a failure, hence the limit.
   */
  begin() {
    this.#contactTimer = setTimeout(() => this.#fail(), FIRST_CONTACT_LIMIT);
    if (this.#mayOffer) this.#placeAll(true);
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#restartTimer);
    clearTimeout(this.#contactTimer);
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

  /** The server has our last answer. */
  answerArrived() {
    this.#answerUnproved = false;
  }

  /** What we said last may have been lost on its way: says again whatever is still open. */
  signalAgain() {
    if (this.#makingOffer || this.#closed) return;
    const { signalingState, localDescription } = this.pc;
    const unanswered = signalingState === "have-local-offer";
    const unproved = this.#answerUnproved && localDescription?.type === "answer";
    if (this.#proposal) this.#send(this.#proposal);
    else if (unanswered || unproved) this.#send(localDescription);
    else if (this.pc.connectionState === "connecting") this.#startOver();
    else this.mend();
  }

  /** @param {RTCSessionDescriptionInit} description */
  async #applyDescription(description) {
    const ready = !this.#makingOffer
      && (this.pc.signalingState === "stable" || this.#answerPending);
    const collision = description.type === "offer" && !ready;
    this.#ignoreOffer = !this.#polite && collision;
    if (this.#ignoreOffer) return;
    this.#answerPending = description.type === "answer";
    await this.#setRemote(description);
    this.#answerPending = false;
    if (description.type === "offer") await this.#answer();
    this.#findRemoteTracks();
  }

  /**
   * A partner's offer voids our proposal. An answer accepts it: then both are set in one go, and nothing that the
   * partner says next comes between.
   * @param {RTCSessionDescriptionInit} description
   */
  async #setRemote(description) {
    const accepted = description.type === "answer" ? this.#proposal : null;
    this.#proposal = null;
    if (description.type === "offer") this.#offersHeard += 1;
    const ours = accepted && this.#setLocal(accepted);
    await Promise.all([ours, this.pc.setRemoteDescription(description)]);
  }

  /** @param {RTCSessionDescriptionInit} [description]  without it: the offer or answer that is due */
  async #setLocal(description) {
    this.#endSent = false;
    await this.pc.setLocalDescription(description);
  }

  async #answer() {
    if (this.#closed) return;
    this.#mayOffer = true;
    this.#placeAll(false);
    await this.#setLocal();
    this.#send(this.pc.localDescription);
  }

  async #offer() {
    if (!this.#mayOffer || this.#closed) return;
    try {
      this.#makingOffer = true;
      await (this.#polite ? this.#propose() : this.#insist());
    } catch (error) {
      this.#note("offer not made", error);
    } finally {
      this.#makingOffer = false;
    }
  }

  async #insist() {
    await this.#setLocal();
    this.#send(this.pc.localDescription);
  }

  /**
   * The polite side sets its offer only when that is answered, and forgets it when a partner's comes first. The
   * browser asks for another when an answer, theirs or ours, leaves something to negotiate, and not before. So nothing
   * is ever rolled back: Chromium shows no new frames of a video that was in an offer rolled back.
   */
  async #propose() {
    const heard = this.#offersHeard;
    const offer = await this.pc.createOffer();
    if (heard !== this.#offersHeard) return;
    this.#proposal = offer;
    this.#send(offer);
  }

  /** @param {RTCSessionDescriptionInit|null} description */
  #send(description) {
    if (this.#closed || !description) return;
    const { type, sdp } = description;
    this.#answerUnproved = type === "answer";
    this.#hooks.send({ type, payload: { type, sdp } });
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

  // --- our tracks ---------------------------------------------------------------

  /** Same kinds are replaced; new and missing ones are negotiated. @param {MediaStream|null} stream */
  setLocalStream(stream) {
    this.#localStream = stream;
    if (this.#placed) for (const kind of KINDS) this.#place(kind, false);
  }

  /** @param {MediaStream|null} stream  shown and heard beside camera and microphone */
  setScreen(stream) {
    this.#screen = stream;
    if (this.#placed) this.#placeScreen();
  }

  /**
   * Once. A missing kind is asked for receive-only when we offer; when we answer, the offer already has
   * a place for it.
   * @param {boolean} offering
   */
  #placeAll(offering) {
    if (this.#placed) return;
    this.#placed = true;
    for (const kind of KINDS) this.#place(kind, offering);
    this.#placeScreen();
  }

  /** @param {Kind} kind @param {boolean} offering */
  #place(kind, offering) {
    const track = this.#localStream?.getTracks().find((each) => each.kind === kind) ?? null;
    const place = this.#placeOf(kind);
    if (place && this.#used.has(kind)) this.#fill(place, track, this.#localStream, true);
    else if (track && this.#localStream) this.pc.addTrack(track, this.#localStream);
    else if (offering) this.pc.addTransceiver(kind, { direction: "recvonly" });
    if (track) this.#used.add(kind);
  }

  /** Places of their own, sending only: those of camera and microphone are never used for a screen. */
  #placeScreen() {
    for (const kind of KINDS) {
      const track = this.#screen?.getTracks().find((each) => each.kind === kind) ?? null;
      const place = this.#screenPlaces.get(kind);
      if (place) this.#fill(place, track, this.#screen, false);
      else if (track && this.#screen) {
        const streams = [this.#screen];
        this.#screenPlaces.set(kind, this.pc.addTransceiver(track, { direction: "sendonly", streams }));
      }
    }
  }

  /**
   * Puts another track, or none, into a place that was used before.
   * @param {RTCRtpTransceiver} place
   * @param {MediaStreamTrack|null} track
   * @param {MediaStream|null} stream
   * @param {boolean} receives
   */
  #fill(place, track, stream, receives) {
    const sends = place.direction === "sendrecv" || place.direction === "sendonly";
    place.sender.replaceTrack(track).catch((error) => this.#note("track not replaced", error));
    if (sends === (track !== null)) return;
    if (track && stream) place.sender.setStreams?.(stream);
    if (track) place.direction = receives ? "sendrecv" : "sendonly";
    else place.direction = receives ? "recvonly" : "inactive";
  }

  /** Where microphone or camera are, ours and the partner's. @param {Kind} kind */
  #placeOf(kind) {
    return this.pc.getTransceivers().find((each) => each !== this.#screenPlaces.get(kind)
      && each.receiver.track.kind === kind && each.direction !== "stopped");
  }

  // --- the partner's tracks -------------------------------------------------------

  /** What we receive, as the last answer settled it. */
  #findRemoteTracks() {
    if (this.#closed) return;
    const receiving = this.pc.getTransceivers().filter((each) => each.currentDirection?.includes("recv"));
    const places = KINDS.map((kind) => this.#placeOf(kind));
    const tracks = receiving.filter((each) => places.includes(each)).map((each) => each.receiver.track);
    const others = receiving.filter((each) => !places.includes(each)).map((each) => each.receiver.track);
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
      this.#note("ICE servers not taken", error);
    }
  }

  /** Our way into the network is another one now. */
  networkChanged() {
    if (this.#reached) this.#startOver();
  }

  /** The partner can be reached again: takes up what had to wait, if anything is broken. */
  mend() {
    if (["disconnected", "failed"].includes(this.pc.connectionState)) this.#startOver();
  }

  #startOver() {
    this.#restarts = 0;
    this.#restart();
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

  /**
   * The polite side waits a little longer, so that both do not restart at once.
   * @param {number} grace
   */
  #interrupted(grace) {
    this.#hooks.media("interrupted");
    const wait = grace + (this.#polite ? POLITE_EXTRA_GRACE : 0);
    this.#restartTimer = setTimeout(() => this.#restart(), wait);
  }

  /** A restart that nobody can hear of is not made: `mend` makes it later. */
  #restart() {
    if (this.#closed || !this.#hooks.reachable()) return;
    const most = this.#reached ? RESTARTS_AFTER_CONTACT : RESTARTS_BEFORE_FIRST_CONTACT;
    if (this.#restarts >= most) {
      this.#fail();
      return;
    }
    this.#restarts += 1;
    this.#note("ICE restart");
    this.pc.restartIce();
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

  /** @returns {Promise<string>} the kind of our candidate in use: host, srflx, prflx, relay; empty: not known */
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
