/** Runs the session of spec/examples/client.mjs with a WebSocket that this script plays the server of. */

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { Session } from "../../spec/examples/client.mjs";

const WISHES = { username: "Ani", topics: ["music"] };
let sockets, calls;

class FakeWebSocket {
  sent = [];
  constructor() { sockets.push(this); }
  send(text) { this.sent.push(JSON.parse(text)); }
  close(code) { this.closedWith = code; }
  receive(...messages) { for (const each of messages) this.onmessage({ data: JSON.stringify(each) }); }
  /** What was sent since the last call, without `id`. */
  take() { return this.sent.splice(0).map(({ id, ...message }) => message); }
}
globalThis.WebSocket = FakeWebSocket;

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  [sockets, calls] = [[], []];
});

const hooks = Object.fromEntries(["pairing", "signal", "partner", "over", "ended"].map((name) =>
  [name, (value) => calls.push([name, value.type ?? value])]));
const taken = () => calls.splice(0);
const welcome = (name) => ({ type: "welcome", sessionId: `c-${name}`, resumeToken: `t-${name}`, resumeSeconds: 30, seq: 1 });
const joined = (roomId, seq) => ({ type: "join", from: "c-budi", roomId, role: "offerer", polite: false, seq });
const chat = (roomId, seq) => ({ type: "chat", from: "c-budi", roomId, text: "hi", seq });

/** A session in a pairing in the room r-1; `lastSeq` is 3. */
function talking() {
  const session = new Session("wss://chat.example/ws", hooks);
  session.join(WISHES);
  sockets[0].receive(welcome("ani"), { type: "ready", roomId: "r-1", seq: 2 }, joined("r-1", 3));
  assert.deepEqual(sockets[0].take(), [{ type: "join", ...WISHES }]);
  assert.deepEqual(taken(), [["pairing", "join"]]);
  return session;
}

/** The last connection ends with this code, and the client connects anew. */
function reconnect(code) {
  const count = sockets.length;
  sockets.at(-1).onclose({ code });
  for (let seconds = 0; seconds < 40 && sockets.length === count; seconds += 1) mock.timers.tick(1_000);
  assert.equal(sockets.length, count + 1);
  return sockets.at(-1);
}

test("own leave: what crosses it is ignored up to its echo", () => {
  const session = talking();
  session.leave();
  sockets[0].receive(chat("r-1", 4), { type: "offer", roomId: "r-1", seq: 5 }, { type: "peer", roomId: "r-1", seq: 6 });
  assert.deepEqual(taken(), []);
  sockets[0].receive({ type: "leave", from: "c-ani", roomId: "r-1", reason: "left", seq: 7 });
  assert.deepEqual(taken(), [["over", "left"]]);
  assert.deepEqual(sockets[0].take(), [{ type: "leave" }]);
});

test("own leave while waiting: the match that crosses it is ignored", () => {
  const session = new Session("wss://chat.example/ws", hooks);
  session.join(WISHES);
  sockets[0].receive(welcome("ani"), { type: "ready", roomId: "r-1", seq: 2 });
  session.leave();
  sockets[0].receive({ type: "ready", roomId: "r-0", seq: 3 }, joined("r-0", 4));
  sockets[0].receive({ type: "leave", from: "c-ani", roomId: "r-0", reason: "left", seq: 5 });
  assert.deepEqual(taken(), []);
  session.join(WISHES);
  sockets[0].receive({ type: "ready", roomId: "r-2", seq: 6 }, joined("r-2", 7), chat("r-2", 8), chat("r-0", 9));
  assert.deepEqual(taken(), [["pairing", "join"], ["partner", "chat"]]);
});

test("a next that the partner's leave crossed is refused, and becomes a join", () => {
  const session = talking();
  session.next();
  sockets[0].receive({ type: "leave", from: "c-budi", roomId: "r-1", reason: "next", seq: 4 });
  sockets[0].receive({ type: "error", code: "wrong_state", ref: "next", fatal: false, seq: 5 });
  assert.deepEqual(sockets[0].take(), [{ type: "next" }, { type: "join", ...WISHES }]);
  sockets[0].receive({ type: "ready", roomId: "r-2", seq: 6 }, joined("r-2", 7));
  assert.deepEqual(taken(), [["over", "next"], ["pairing", "join"]]);
});

test("a lost connection is resumed: what was lost is sent again, resumed.seq is not kept", () => {
  const session = talking();
  session.send({ type: "chat", text: "one" });
  sockets[0].receive({ type: "pong", heard: 2, seq: 4 });
  session.send({ type: "chat", text: "two" });
  session.send({ type: "chat", text: "three" });
  const second = reconnect(1006);
  session.send({ type: "chat", text: "four" });
  assert.deepEqual(second.take(), []);
  second.receive(welcome("fresh"));
  assert.deepEqual(second.take(), [{ type: "resume", token: "t-ani", lastSeq: 4 }]);
  second.receive({ type: "resumed", sessionId: "c-ani", resumeToken: "t-next", heard: 3, seq: 2 }, chat("r-1", 5));
  assert.deepEqual(second.take().map(({ text }) => text), ["three", "four"]);
  assert.deepEqual(taken(), [["partner", "chat"]]);
  const third = reconnect(1012);
  third.receive(welcome("another"));
  assert.deepEqual(third.take(), [{ type: "resume", token: "t-next", lastSeq: 5 }]);
});

test("resumed without anything missed: lastSeq stays that of the session", () => {
  talking();
  const second = reconnect(1006);
  second.receive(welcome("fresh"), { type: "resumed", sessionId: "c-ani", resumeToken: "t-2", heard: 1, seq: 2 });
  const third = reconnect(1006);
  third.receive(welcome("another"));
  assert.equal(third.take()[0].lastSeq, 3);
  assert.equal(second.take().at(-1).type, "resume");
});

test("a session that can't be resumed: over, and back to wanting a partner with the same wishes", () => {
  talking();
  const second = reconnect(4001);
  second.receive(welcome("fresh"), { type: "error", code: "resume_failed", ref: "resume", fatal: false, seq: 2 });
  assert.deepEqual(second.take().slice(1), [{ type: "join", ...WISHES }]);
  assert.deepEqual(taken(), [["over", "peer_lost"]]);
  second.receive({ type: "ready", roomId: "r-9", seq: 3 });
  const third = reconnect(1006);
  third.receive(welcome("another"));
  assert.deepEqual(third.take(), [{ type: "resume", token: "t-fresh", lastSeq: 3 }]);
});

test("the server shuts down: back not before retryAfterSeconds, to wanting a partner", () => {
  talking();
  sockets[0].receive({ type: "leave", from: "c-budi", roomId: "r-1", reason: "server_shutdown", seq: 4 });
  sockets[0].receive({ type: "goaway", reason: "server_shutdown", retryAfterSeconds: 5, seq: 5 });
  sockets[0].onclose({ code: 4000 });
  mock.timers.tick(4_999);
  assert.equal(sockets.length, 1);
  mock.timers.tick(1_001);
  sockets[1].receive(welcome("fresh"), { type: "error", code: "resume_failed", ref: "resume", seq: 2 });
  assert.deepEqual(sockets[1].take().map(({ type }) => type), ["resume", "join"]);
});

for (const [retryAfterSeconds, least] of [[1, 10_000], [20, 20_000]]) {
  test(`too many messages, to be sent after ${retryAfterSeconds} s: back not before ${least / 1000} s`, () => {
    talking();
    sockets[0].receive({ type: "error", code: "rate_limited", ref: "chat", fatal: true, retryAfterSeconds, seq: 4 });
    sockets[0].onclose({ code: 4003 });
    mock.timers.tick(least);
    assert.equal(sockets.length, 1);
    mock.timers.tick(1_000);
    assert.equal(sockets.length, 2);
  });
}

test("codes and reasons that a client does not know count as their class", () => {
  talking();
  sockets[0].receive({ type: "error", code: "too_loud", ref: "chat", fatal: false, seq: 4 });
  assert.deepEqual(taken(), []);
  sockets[0].receive({ type: "leave", from: "c-budi", roomId: "r-1", reason: "bored", seq: 5 });
  assert.deepEqual(taken(), [["over", "bored"]]);
  const session = new Session("wss://chat.example/ws", hooks);
  session.join(WISHES);
  sockets.at(-1).receive(welcome("ani"));
  reconnect(4321);
  sockets.at(-1).onclose({ code: 4567 });
  assert.deepEqual(taken(), [["ended", 4567]]);
});

test("after a code that forbids it, or without a wish, the client stays away", () => {
  talking();
  sockets[0].onclose({ code: 4505 });
  mock.timers.tick(100_000);
  assert.deepEqual(taken(), [["ended", 4505]]);
  new Session("wss://chat.example/ws", hooks);
  sockets[1].receive(welcome("budi"));
  sockets[1].onclose({ code: 1006 });
  mock.timers.tick(100_000);
  assert.deepEqual(taken(), [["ended", 1006]]);
  assert.equal(sockets.length, 2);
});

test("a dead network: another socket resumes, the old one is closed with 4900, and its 4505 ignored", () => {
  const session = talking();
  session.probe();
  mock.timers.tick(10_000);
  assert.equal(sockets.length, 2);
  assert.equal(sockets[0].closedWith, 4900);
  sockets[0].onclose({ code: 4505 });
  sockets[0].onmessage({ data: JSON.stringify(chat("r-1", 4)) });
  assert.deepEqual(taken(), []);
  sockets[1].receive(welcome("fresh"));
  assert.deepEqual(sockets[1].take(), [{ type: "resume", token: "t-ani", lastSeq: 3 }]);
  sockets[1].receive({ type: "resumed", sessionId: "c-ani", resumeToken: "t-2", heard: 1, seq: 2 }, chat("r-1", 4));
  assert.deepEqual(sockets[1].take(), [{ type: "ping" }]);
  assert.deepEqual(taken(), [["partner", "chat"]]);
});

test("a server that sends no welcome is given up", () => {
  new Session("wss://chat.example/ws", hooks);
  mock.timers.tick(15_000);
  assert.deepEqual([sockets.length, sockets[0].closedWith], [2, 4900]);
});

test("pings more often than every 10 seconds give a dead network no more time", () => {
  const session = talking();
  for (let seconds = 0; seconds < 12; seconds += 3) {
    session.probe();
    mock.timers.tick(3_000);
  }
  assert.equal(sockets[0].closedWith, 4900);
  assert.equal(sockets.length, 2);
});

test("a pong in time keeps the connection", () => {
  const session = talking();
  session.probe();
  mock.timers.tick(9_000);
  sockets[0].receive({ type: "pong", heard: 2, seq: 4 });
  mock.timers.tick(100_000);
  assert.equal(sockets.length, 1);
});

test("a message over the rate limit is sent again, unless its pairing is over", () => {
  const session = new Session("wss://chat.example/ws", hooks);
  session.join(WISHES);
  sockets[0].receive(welcome("ani"));
  const [{ id }] = sockets[0].sent.splice(0);
  const error = { type: "error", code: "rate_limited", ref: "join", fatal: false, retryAfterSeconds: 2, id, seq: 2 };
  sockets[0].receive(error);
  mock.timers.tick(1_999);
  assert.deepEqual(sockets[0].take(), []);
  mock.timers.tick(1);
  assert.deepEqual(sockets[0].take(), [{ type: "join", ...WISHES }]);
  sockets[0].receive({ type: "ready", roomId: "r-1", seq: 3 }, joined("r-1", 4));
  session.send({ type: "chat", text: "hi" });
  const [dropped] = sockets[0].sent.splice(0);
  sockets[0].receive({ ...error, ref: "chat", id: dropped.id, seq: 5 });
  sockets[0].receive({ type: "leave", from: "c-budi", roomId: "r-1", reason: "left", seq: 6 });
  mock.timers.tick(5_000);
  assert.deepEqual(sockets[0].take(), []);
});
