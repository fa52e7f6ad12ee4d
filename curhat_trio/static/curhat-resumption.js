/**
 * What a client keeps to resume its session over another socket: the server's token, the number of the last message
 * received, and the messages sent that are not known to have been received. Each `heard` of the server's, and each pong,
 * shortens that list.
 */

import { isCount, isText, positive } from "./curhat-wire.js";

/** @import { Message } from "./curhat-wire.js" */

/** One session, as far as it can be resumed (spec/protocol.md, section 2.13). */
export class Resumption {
  token = "";
  /** How long the server keeps the session. */ milliseconds = 0;
  /** `seq` of the last message received. */ lastSeq = 0;

  /** Messages sent that may not have been received, in order. @type {Message[]} */ #sent = [];
  /** How many were sent before those; `resume` does not count [P-13.4]. */ #before = 0;
  /** Pings without a pong yet: the number of messages up to and including each. @type {number[]} */ #pings = [];
  /** Whether `#before` is the server's count, too. */ #isCounted = true;

  /** @param {Message} welcome */
  constructor(welcome) {
    this.renew(welcome);
  }

  /** How many messages are kept. */
  get size() { return this.#sent.length; }
  /** Whether a ping has no pong yet. */
  get isPinging() { return this.#pings.length > 0; }

  /** Takes the next token; each is good once [P-13.5]. @param {Message} message */
  renew({ resumeToken, resumeSeconds }) {
    this.milliseconds = 1000 * positive(resumeSeconds);
    this.token = isText(resumeToken) && this.milliseconds > 0 ? resumeToken : "";
  }

  /** Records a message that was sent, or is to be sent once the session is resumed. @param {Message} message */
  keep(message) {
    this.#sent.push(message);
    if (message.type === "ping") this.#pings.push(this.#before + this.#sent.length);
  }

  /** Finds a message by its `id`, unless it is known to have been dealt with. @param {unknown} id */
  find(id) {
    return isText(id) ? this.#sent.find((each) => each.id === id) : undefined;
  }

  /**
   * Takes a pong: everything that the server has received by then may be forgotten [P-13.14].
   * @param {unknown} [heard]  how many messages the session has received; without it: those up to the first ping
   */
  acknowledge(heard) {
    const [first = this.#before] = this.#pings;
    const number = isCount(heard) && this.#isCounted ? heard : first;
    if (number < this.#before || number > this.#before + this.#sent.length) return;
    this.#sent.splice(0, number - this.#before);
    this.#before = number;
    this.#pings = this.#pings.filter((each) => each > number);
  }

  /**
   * The messages that have to be sent again. From now on they count as not sent.
   * @param {unknown} heard  how many messages the session has received, according to the server
   * @returns {Message[]|null} null: that number is not possible
   */
  takeUnreceived(heard) {
    const [before, sent] = [this.#before, this.#sent];
    const known = this.#isCounted && isCount(heard) && heard >= before && heard <= before + sent.length;
    this.#sent = [];
    this.#pings = [];
    this.#isCounted = known; // once it is not, no other number can match
    this.#before = known ? heard : 0;
    return known ? sent.slice(heard - before) : null;
  }
}
