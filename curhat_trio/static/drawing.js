/** How words come onto the page: always as text, never as HTML, and only where they differ. */

/** @param {string} id @returns {any} */
export const element = (id) => document.getElementById(id);

/** Keeps a stranger's name from turning round the text beside it. @param {string} text */
export const isolate = (text) => `\u2068${text.replace(/[\u2066-\u2069\u202a-\u202e]/g, "")}\u2069`;

/** Words without the marks of `isolate`, for where no element can stand. @param {string} words */
export const plain = (words) => words.replace(/[\u2068\u2069]/g, "");

/** Changes text only where it differs, so that a live region is not read twice. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Our own words: what `isolate` marked in them becomes an element of its own. */
export function setWords(node, words) {
  const parts = words.split(/[\u2068\u2069]/);
  if (node.textContent === parts.join("")) return;
  node.replaceChildren(...parts.map((part, index) => (index % 2 ? nameNode(part) : part)));
}

function nameNode(name) {
  const node = document.createElement("bdi");
  node.textContent = name;
  return node;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** @param {string} text @param {string} [className] */
export function paragraph(text, className = "") {
  const node = document.createElement("p");
  node.className = className;
  node.textContent = text;
  node.dir = "auto";
  return node;
}

export const isAtEnd = (list) => list.scrollHeight - list.scrollTop - list.clientHeight < 40;

export function toEnd(list) {
  list.scrollTop = list.scrollHeight;
}

/** Appends, drops the oldest, and stays at the end unless the person scrolled up. */
export function append(list, node, most) {
  const follow = isAtEnd(list);
  list.append(node);
  while (list.children.length > most) list.firstElementChild.remove();
  if (follow) toEnd(list);
}
