/**
 * What a client keeps of its session, to take it up again on another socket: the server's token, the number of the last
 * message heard, and what was said of which it is not known whether it arrived.
 */

import { isCount, isText, positive } from "./curhat-wire.js";

/** @typedef {import("./curhat.js").Message} Message */

export class Resumption {
  token = "";
  /** How long the server keeps the session. */ milliseconds = 0;
  /** `seq` of the last message heard. */ seq = 0;

  /** What was said since, in order. @type {Message[]} */ #said = [];
  /** How many were said before those; `resume` does not count [P-13.4]. */ #before = 0;
  /** Pings without a pong yet, by the number of messages up to and with each. @type {number[]} */ #pings = [];

  /** @param {Message} welcome */
  constructor(welcome) {
    this.renew(welcome);
  }

  /** A token is good once. @param {Message} message */
  renew({ resumeToken, resumeSeconds }) {
    this.milliseconds = 1000 * positive(resumeSeconds);
    this.token = isText(resumeToken) && this.milliseconds > 0 ? resumeToken : "";
  }

  /** Something was said, or would have been if there were a socket. @param {Message} message */
  keep(message) {
    if (!this.token) return;
    this.#said.push(message);
    if (message.type === "ping") this.#pings.push(this.#before + this.#said.length);
  }

  /** A pong came: what was said up to its ping has arrived. */
  prove() {
    const number = this.#pings.shift() ?? this.#before;
    this.#said.splice(0, number - this.#before);
    this.#before = Math.max(this.#before, number);
  }

  /**
   * What has to be said again. Then it counts as not said yet.
   * @param {unknown} heard  how many of our messages the server says it has read
   * @returns {Message[]|null} null: that can't be
   */
  takeLost(heard) {
    const [before, said] = [this.#before, this.#said];
    const known = isCount(heard) && heard >= before && heard <= before + said.length;
    this.#said = [];
    this.#pings = [];
    this.#before = known ? heard : Infinity; // nobody knows the number, so no other count fits either
    if (!known) return null;
    return said.slice(heard - before);
  }
}
