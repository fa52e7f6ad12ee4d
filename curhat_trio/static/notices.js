/** What a person has to know about trouble: one notice a subject, above everything else. */

import { element } from "/drawing.js";
import { say } from "/words.js";

const place = element("error");
/** @type {Map<string, {words: () => string, again?: () => void}>} */
const notices = new Map();

/** @param {string} subject @param {(() => string)|null} words none removes it @param {() => void} [again] */
export function notice(subject, words, again) {
  if (words) notices.set(subject, { words, again });
  else notices.delete(subject);
}

/** @param {string} subject */
export const isNoticed = (subject) => notices.has(subject);

export const clearNotices = () => notices.clear();

export function drawNotices() {
  const all = [...notices.values()];
  const texts = all.map(({ words, again }) => words() + (again ? ` ${say("again")}` : ""));
  const shown = [...place.children].map((child) => [...child.children].map((part) => part.textContent).join(" "));
  if (texts.join("\n") === shown.join("\n")) return;
  place.replaceChildren(...all.map(noticeNode));
  place.hidden = texts.length === 0;
}

function noticeNode({ words, again }) {
  const node = document.createElement("p");
  const text = document.createElement("span");
  text.textContent = words();
  node.append(text);
  if (again) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = say("again");
    button.addEventListener("click", again);
    node.append(button);
  }
  return node;
}

/** The style sheet takes their height off the room's. */
function tellHeight() {
  const height = place.hidden ? 0 : place.offsetHeight + parseFloat(getComputedStyle(place).marginBottom);
  document.body.style.setProperty("--notices", `${height}px`);
}

new ResizeObserver(tellHeight).observe(place);
