/** The quality of the connection in words, and its details behind a button. */

import { element, setAttribute, setText } from "/drawing.js";
import { say } from "/words.js";

const ui = {
  button: element("quality"), words: element("quality-words"), details: element("quality-details"),
  text: element("quality-text"), path: element("quality-path"), rtt: element("quality-rtt"),
  bitrate: element("quality-bitrate"), loss: element("quality-loss"),
};

const isNumber = (value) => typeof value === "number";

/** @param {boolean} open */
export function openDetails(open) {
  ui.details.hidden = !open;
  setAttribute(ui.button, "aria-expanded", open);
}

export const detailsAreOpen = () => !ui.details.hidden;

/**
 * @param {any} stats  what client.stats() gave, or null
 * @param {"connecting"|"connected"|"interrupted"|"failed"|""} media  "": there is no conversation
 */
export function drawQuality(stats, media) {
  const shown = media === "connected" || media === "interrupted";
  ui.button.hidden = !shown;
  if (!shown) {
    openDetails(false);
    return;
  }
  const quality = media === "interrupted" ? "interrupted" : stats?.quality ?? "unknown";
  setAttribute(ui.button, "data-quality", quality);
  setText(ui.words, say("quality", { quality: say(`quality.${quality}`) }));
  setText(ui.text, say(`quality.${quality}.text`));
  drawDetails(stats ?? {});
}

function drawDetails({ path, rttMilliseconds, sendKbps, receiveKbps, packetsLost }) {
  const value = (known, key, values) => (known ? say(key, values) : say("quality.none"));
  setText(ui.path, say(`quality.path.${path ?? "unknown"}`));
  setText(ui.rtt, value(isNumber(rttMilliseconds), "quality.rtt.value", { count: rttMilliseconds }));
  setText(ui.bitrate, value(isNumber(sendKbps) && isNumber(receiveKbps), "quality.bitrate.value",
    { send: Math.round(sendKbps), receive: Math.round(receiveKbps) }));
  setText(ui.loss, value(isNumber(packetsLost), "quality.loss.value", { percent: (packetsLost * 100).toFixed(1) }));
}
