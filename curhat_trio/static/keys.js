/** Single keys: which of them count, how they are explained, and the leave to use them. What they do stands elsewhere. */

import { element } from "/drawing.js";
import { recall, remember } from "/memory.js";
import { say } from "/words.js";

/**
 * What a key is for, in words of words.js, and what it does: gives the button to press, or does it itself.
 * @typedef {Record<string, {words: string, does: () => HTMLElement|void}>} Keys
 */

const explanations = element("help-keys");
const mayBeUsed = element("keys-use");

/** @param {Keys} keys */
export function explainKeys(keys) {
  explanations.replaceChildren(...Object.entries(keys).map(([key, { words }]) => keyNode(key, say(words))));
}

function keyNode(key, words) {
  const node = document.createElement("div");
  const name = document.createElement("dt");
  const keyCap = document.createElement("kbd");
  const meaning = document.createElement("dd");
  keyCap.textContent = key.toUpperCase();
  meaning.textContent = words;
  name.append(keyCap);
  node.append(name, meaning);
  return node;
}

/** @param {Keys} keys @param {KeyboardEvent} event */
export function pressKey(keys, event) {
  const key = event.key.toLowerCase();
  if (!Object.hasOwn(keys, key) || !isSingleKey(event)) return;
  event.preventDefault();
  const button = keys[key].does();
  if (button?.checkVisibility()) button.click();
}

/** No part of a text, of a combination, of a dialog, nor held down. */
function isSingleKey(event) {
  const combined = event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat;
  const elsewhere = event.target.closest?.("input, select, textarea, dialog");
  return mayBeUsed.checked && !combined && !elsewhere && !document.querySelector("dialog[open]");
}

mayBeUsed.checked = recall("keys", true);
mayBeUsed.addEventListener("change", () => remember({ keys: mayBeUsed.checked }));
