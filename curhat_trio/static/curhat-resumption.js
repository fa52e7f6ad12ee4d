/**
 * What a client keeps to resume its session over another socket: the server's token, the number of the last message
 * received, and the messages sent that are not known to have been received.
 */

import { isCount, isText, positive } from "./curhat-wire.js";

/** @import { Message } from "./curhat-wire.js" */

/** One session, as far as it can be resumed (spec/protocol.md, section 13). */
export class Resumption {
  token = "";
  /** How long the server keeps the session. */ milliseconds = 0;
  /** `seq` of the last message received. */ lastSeq = 0;

  /** Messages sent that may not have been received, in order. @type {Message[]} */ #sent = [];
  /** How many were sent before those; `resume` does not count [P-13.4]. */ #before = 0;
  /** Pings without a pong yet: the number of messages up to and including each. @type {number[]} */ #pings = [];

  /** @param {Message} welcome */
  constructor(welcome) {
    this.renew(welcome);
  }

  /** Takes the next token; each is good once [P-13.5]. @param {Message} message */
  renew({ resumeToken, resumeSeconds }) {
    this.milliseconds = 1000 * positive(resumeSeconds);
    this.token = isText(resumeToken) && this.milliseconds > 0 ? resumeToken : "";
  }

  /** Records a message that was sent, or is to be sent once the session is resumed. @param {Message} message */
  keep(message) {
    if (!this.token) return;
    this.#sent.push(message);
    if (message.type === "ping") this.#pings.push(this.#before + this.#sent.length);
  }

  /** Takes a pong: everything up to its ping has been received. */
  acknowledge() {
    const number = this.#pings.shift() ?? this.#before;
    this.#sent.splice(0, number - this.#before);
    this.#before = Math.max(this.#before, number);
  }

  /**
   * The messages that have to be sent again. From now on they count as not sent.
   * @param {unknown} heard  how many messages the session has received, according to the server
   * @returns {Message[]|null} null: that number is not possible
   */
  takeUnreceived(heard) {
    const [before, sent] = [this.#before, this.#sent];
    const known = isCount(heard) && heard >= before && heard <= before + sent.length;
    this.#sent = [];
    this.#pings = [];
    this.#before = known ? heard : Infinity; // the number is not known, so no other one can match
    if (!known) return null;
    return sent.slice(heard - before);
  }
}
