/** The written conversation: what was said, what is not read yet, and who is writing. */

import { append, element, isAtEnd, paragraph, setText, setWords, toEnd } from "/drawing.js";
import { say } from "/words.js";

const MOST_LINES = 500;
const IDLE_AFTER = 4_000;

const ui = {
  panel: element("chat"), log: element("chat-log"), empty: element("chat-empty"), typing: element("typing"),
  form: element("chat-form"), text: element("chat-text"), send: element("chat-send"),
};

export class Chat {
  /** Messages that came while nobody could see them. */
  unread = 0;

  #hooks;
  #typing = false;
  #idleTimer = 0;
  #atEnd = true;

  /**
   * @param {{send: (text: string) => boolean, typing: (active: boolean) => void, changed: () => void}} hooks
   *   typing: we began or ceased to write; changed: what is unread has become another number
   */
  constructor(hooks) {
    this.#hooks = hooks;
    ui.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    ui.text.addEventListener("input", () => this.#wrote());
    document.addEventListener("visibilitychange", () => this.read());
    ui.log.addEventListener("scroll", () => { this.#atEnd = isAtEnd(ui.log); });
    new ResizeObserver(() => { if (this.#atEnd) toEnd(ui.log); }).observe(ui.log);
  }

  /** Empties everything for a new partner. */
  begin() {
    ui.log.replaceChildren();
    this.unread = 0;
    this.end();
  }

  /** Nobody is there to write to or to be written to by. */
  end() {
    this.partnerTyping("");
    clearTimeout(this.#idleTimer);
    this.#typing = false;
  }

  /** @param {boolean} possible whether there is somebody to write to @param {number} most characters */
  draw(possible, most) {
    ui.text.disabled = !possible;
    ui.send.disabled = !possible;
    ui.text.maxLength = most;
    ui.empty.hidden = ui.log.querySelector(".own, .partner") !== null;
  }

  /** A remark of the page's own. @param {string} words */
  note(words) {
    const node = paragraph("", "system");
    setWords(node, words);
    append(ui.log, node, MOST_LINES);
  }

  /** @param {string} name @param {string} text */
  receive(name, text) {
    this.#add("partner", name, text);
    this.partnerTyping("");
    if (!this.#isSeen()) this.unread += 1;
    this.#hooks.changed();
  }

  /** What can be seen now is read. */
  read() {
    if (this.unread === 0 || !this.#isSeen()) return;
    this.unread = 0;
    toEnd(ui.log);
    this.#hooks.changed();
  }

  /** @param {string} words who is writing; none: nobody */
  partnerTyping(words) {
    setWords(ui.typing, words);
  }

  focus() {
    (ui.text.disabled ? ui.log : ui.text).focus();
  }

  #isSeen() {
    return !document.hidden && ui.panel.checkVisibility();
  }

  #add(kind, who, text) {
    const node = paragraph(text, kind);
    const label = document.createElement("span");
    label.className = "who";
    setText(label, who);
    node.prepend(label);
    append(ui.log, node, MOST_LINES);
  }

  #send() {
    const text = ui.text.value;
    if (!this.#hooks.send(text)) return;
    this.#add("own", say("you"), text);
    ui.text.value = "";
    // A message ends the partner's typing sign by itself.
    clearTimeout(this.#idleTimer);
    this.#typing = false;
    this.#hooks.changed();
  }

  #wrote() {
    clearTimeout(this.#idleTimer);
    this.#say(ui.text.value !== "");
    this.#idleTimer = setTimeout(() => this.#say(false), IDLE_AFTER);
  }

  #say(typing) {
    if (typing === this.#typing) return;
    this.#typing = typing;
    this.#hooks.typing(typing);
  }
}
