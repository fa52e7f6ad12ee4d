// The hard parts of a curhat.v1 client in a browser. spec/protocol.md, section 2, shows each part beside its rules.
// `hooks` is the rest of the client: pairing(join), signal(message), partner(message), over(reason), ended(code).

// --- negotiation
/** Perfect negotiation with the role from `join`. Returns the handler for the partner's offer, answer, candidate. */
export function negotiate(pc, { role, polite }, send) {
  let mayOffer = role === "offerer", makingOffer = false, ignoreOffer = false, settingAnswer = false;
  const describe = async () => {
    await pc.setLocalDescription(); // creates the offer or the answer that is due
    const { type, sdp } = pc.localDescription;
    send({ type, payload: { type, sdp } });
  };
  // Fires when there is something to negotiate and no offer is pending. After a rollback it fires again once the
  // partner's offer has been answered: this is how the polite side repeats its offer [P-5.12].
  pc.onnegotiationneeded = async () => {
    if (!mayOffer) return; // the first offer is the offerer's [P-5.2]; if still needed, it fires after the answer
    makingOffer = true;
    try { await describe(); } finally { makingOffer = false; }
  };
  // The last event has `null`; in some browsers an empty candidate precedes it. Both mean the end [P-6.4].
  pc.onicecandidate = ({ candidate }) =>
    send({ type: "candidate", payload: candidate ? candidate.toJSON() : { candidate: "" } });

  return async ({ type, payload }) => {
    if (type === "candidate") {
      try { await pc.addIceCandidate(payload); } catch (error) { if (!ignoreOffer) throw error; } // [P-5.9]
      return;
    }
    const stable = !makingOffer && (pc.signalingState === "stable" || settingAnswer);
    ignoreOffer = type === "offer" && !stable && !polite;
    if (ignoreOffer) return; // the own offer is pending, and the partner will answer it [P-5.9]
    settingAnswer = type === "answer";
    try { await pc.setRemoteDescription(payload); } finally { settingAnswer = false; } // may roll back [P-5.10]
    if (type !== "offer") return;
    mayOffer = true;
    await describe();
  };
}

// --- session
const SIGNALS = ["offer", "answer", "candidate"];
const FROM_PARTNER = [...SIGNALS, "chat", "typing", "media", "peer"];
const BEFORE_THE_ECHO = [...FROM_PARTNER, "ready", "join"];

export class Session {
  #socket; #welcome; #id = null; #token = null; #lastSeq = 0; #count = 0; #attempt = 0; #notBefore = 0; #timer = 0;
  #sent = []; #heard = 0; // the messages that no `pong` has counted yet; how many were counted before them
  #wanted = null; // the last `join`, while the user wants a partner
  #leaving = false; // `leave` or `next` is not answered yet
  #room = null;

  constructor(url, hooks) {
    Object.assign(this, { url, hooks });
    this.#connect();
  }
  join(wishes) {
    this.#wanted = { type: "join", ...wishes };
    this.#send(this.#wanted);
  }
  leave() {
    this.#wanted = null;
    this.next("leave");
  }
  next(type = "next") {
    this.#leaving = true;
    this.#send({ type });
  }
  /** Sends to the partner. */
  send(message) {
    if (this.#room && !this.#leaving) this.#send(message);
  }
  /** The user leaves for good. */
  close() {
    this.#wanted = null;
    this.#socket?.close(1000);
  }
  #send(message) {
    message = { ...message, id: String(++this.#count) };
    this.#sent.push(message);
    if (this.#id) this.#socket.send(JSON.stringify(message)); // else: after `resumed`
  }

  #receive(message) {
    const { type, code } = message;
    if (type === "welcome") return this.#welcomed(message);
    if (code === "resume_failed") return this.#begin(message.seq);
    if (type === "resumed") this.#resumed(message);
    else this.#lastSeq = message.seq;
    this.#attempt = 0;
    if (type === "pong") { // everything that `heard` counts can be forgotten [P-13.14]
      this.#sent.splice(0, message.heard - this.#heard);
      this.#heard = message.heard;
    }
    if (type === "goaway" || message.fatal) { // the server is about to close [P-9.3], [P-9.7]
      this.#notBefore = Date.now() + 1000 * (message.retryAfterSeconds ?? 0);
    }
    if (code === "rate_limited" && !message.fatal) this.#sendAgain(message);
    if (this.#isStale(message)) return;
    if (type === "join") {
      this.#room = message.roomId;
      this.hooks.pairing(message);
    } else if (type === "leave") this.#over(message);
    else if (SIGNALS.includes(type)) this.hooks.signal(message);
    else if (FROM_PARTNER.includes(type)) this.hooks.partner(message);
  }
  #over({ from, reason }) {
    const byPartner = from !== this.#id && !this.#leaving;
    if (byPartner && reason !== "server_shutdown") this.#wanted = null; // the user decides whether to join again
    if (this.#room) this.hooks.over(reason);
    this.#room = null;
  }
  /** The server has dropped a message; nothing but sending it again brings it back [P-7.7]. */
  #sendAgain({ id, retryAfterSeconds }) {
    const [dropped, room] = [this.#sent.find((each) => each.id === id), this.#room];
    const again = () => { if (dropped && room === this.#room) this.#send(dropped); };
    setTimeout(again, 1000 * retryAfterSeconds);
  }

  // --- leaving
  /** Whether a message belongs to an earlier room, or to the one that `leave` or `next` is about to end [P-4.11]. */
  #isStale({ type, from, code, ref, roomId }) {
    if (!this.#leaving) return FROM_PARTNER.includes(type) && roomId !== this.#room; // [P-4.8]
    const refused = code === "wrong_state" && ["leave", "next"].includes(ref); // the partner left first [P-4.9]
    if (refused || (type === "leave" && from === this.#id)) this.#leaving = false;
    if (refused && this.#wanted) this.#send(this.#wanted); // it was `next`; now the client is connected
    return BEFORE_THE_ECHO.includes(type);
  }

  // --- reconnecting
  #connect() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#giveUp(), 15_000); // no `welcome`
    const socket = this.#socket = new WebSocket(this.url, ["curhat.v1"]);
    this.#id = null; // until `resumed`, or until a new session begins
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      clearTimeout(this.#timer); // of `welcome` or `probe`
      this.#timer = 0;
      this.#receive(JSON.parse(data));
    };
    socket.onclose = ({ code }) => { if (socket === this.#socket) this.#lost(code); }; // not the old one's 4505
  }
  #welcomed(welcome) {
    this.#welcome = welcome;
    if (!this.#token) return this.#begin(welcome.seq);
    this.#socket.send(JSON.stringify({ type: "resume", token: this.#token, lastSeq: this.#lastSeq }));
  }
  #resumed({ sessionId, resumeToken, heard }) { // its `seq` is the fresh session's: #lastSeq stays [P-13.16]
    [this.#id, this.#token] = [sessionId, resumeToken];
    for (const lost of this.#sent.slice(heard - this.#heard)) this.#socket.send(JSON.stringify(lost)); // [P-13.4]
  }
  /** A new session: the old one is over, and the user who wanted a partner still wants one, with the same wishes. */
  #begin(seq) {
    if (this.#room) this.hooks.over("peer_lost");
    [this.#id, this.#token, this.#lastSeq] = [this.#welcome.sessionId, this.#welcome.resumeToken, seq];
    [this.#room, this.#leaving, this.#sent, this.#heard] = [null, false, [], 0];
    if (this.#wanted) this.#send(this.#wanted);
  }
  #lost(code) {
    clearTimeout(this.#timer);
    [this.#socket, this.#id] = [null, null];
    const retry = (code >= 4000 && code < 4500) || [1001, 1005, 1006, 1011, 1012, 1013, 1014].includes(code);
    if (!retry || !this.#wanted) return this.hooks.ended(code); // [P-9.1], [P-9.2]
    const least = Math.max(this.#notBefore - Date.now(), code === 4003 ? 10_000 : 0);
    const backoff = Math.min(30_000, 1000 * 2 ** this.#attempt++) * (0.5 + Math.random() / 2);
    this.#timer = setTimeout(() => this.#connect(), least + backoff);
  }
  /** Call every `welcome.pingSeconds`, and when the page is shown again: detects a network that died in silence. */
  probe() {
    if (!this.#id) return;
    this.#send({ type: "ping" });
    this.#timer ||= setTimeout(() => this.#giveUp(), 10_000); // a later ping gives no more time
  }
  #giveUp() {
    const old = this.#socket;
    this.#connect(); // whatever the old socket reports from now on is ignored
    old.close(4900); // its close frame may still arrive, and must not end the session [P-13.12]
  }
}
