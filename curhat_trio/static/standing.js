/**
 * How things stand, in words: what the page is about at the moment, and what it says of that. Everything follows from
 * what the client (curhat.js) and the page's `view` know.
 */

import { hasAudio, hasVideo } from "/devices.js";
import { isolate } from "/drawing.js";
import { say, sayCount } from "/words.js";

const PRODUCT = "curhat_trio";

/** A stranger's name, or what to call them. */
export const partnerName = (partner) => isolate(partner?.username || say("partner"));

/** @returns {"lobby"|"waiting"|"talk"|"ended"} */
export function scene(client, view) {
  if (client.talking) return "talk";
  if (client.state === "waiting" || (client.wantsPartner && client.active)) return "waiting";
  return view.ending && client.active ? "ended" : "lobby";
}

export function stateWords(client, view) {
  if (view.starting) return say("state.asking");
  if (view.resuming) return say(client.talking ? "state.resuming" : "state.resuming.waiting");
  switch (client.state) {
    case "disconnected": return disconnectedWords(client, view);
    case "connected": return connectedWords(client, view);
    case "waiting": return say(view.rejoined ? "state.waiting.back" : "state.waiting");
    default: return talkingWords(client, view);
  }
}

function disconnectedWords(client, view) {
  if (view.retry) {
    const wait = Math.max(1, Math.round(view.retry.delaySeconds));
    return say("state.retrying", { time: sayCount("seconds", wait) });
  }
  return say(view.connecting ? "state.connecting" : "state.idle");
}

function connectedWords(client, view) {
  const ending = view.ending?.();
  if (client.wantsPartner && ending) return say("state.ended.back", { ending });
  if (client.wantsPartner) return say(view.rejoined ? "state.looking.back" : "state.looking");
  return ending ? say("state.ended", { ending }) : say("state.connected");
}

function talkingWords(client, view) {
  const name = partnerName(client.partner);
  if (view.away) return say("state.away", { name });
  switch (view.media) {
    case "connected": return say("state.talking", { name });
    case "interrupted": return say("state.interrupted", { name });
    case "failed": return say("state.failed", { name });
    default: return say("state.paired", { name });
  }
}

export function titleWords(client, view, unreadCount) {
  const unread = unreadCount ? `(${unreadCount}) ` : "";
  if (client.talking) return `${unread}${client.partner?.username || say("partner")} – ${PRODUCT}`;
  if (view.retry) return `${say("title.reconnecting")} – ${PRODUCT}`;
  if (client.state === "waiting") return `${say("title.waiting")} – ${PRODUCT}`;
  if (view.ending) return `${say("title.ended")} – ${PRODUCT}`;
  return `${PRODUCT} – ${say("title")}`;
}

/** What stands in the partner's place, and whether it is a matter of waiting. @returns {[string, boolean]} */
export function stageWords(client, view) {
  if (client.talking) return talkingStageWords(client, view);
  if (scene(client, view) === "lobby") return [view.stream ? "" : say("stage.preview"), false];
  if (scene(client, view) === "ended") return [view.ending?.() ?? "", false];
  return [say(view.retry || view.connecting || view.resuming ? "stage.retrying" : "stage.waiting"), true];
}

/** @returns {[string, boolean]} */
function talkingStageWords(client, view) {
  if (view.resuming) return [say("stage.retrying"), true];
  if (view.away) return [say("stage.away"), true];
  if (view.media === "failed") return [say("stage.failed"), false];
  if (view.media === "interrupted") return [say("stage.interrupted"), true];
  if (view.media !== "connected") return [say("stage.starting"), true];
  if (!hasVideo(client.remoteStream)) return [say("stage.noCamera"), false];
  return [client.partnerMedia.video ? "" : say("stage.cameraOff"), false];
}

/** Whether there is a microphone to be heard, and it is off. */
export function partnerIsMuted(client) {
  return client.talking && hasAudio(client.remoteStream) && !client.partnerMedia.audio;
}

export function selfWords(view) {
  if (view.screen) return say("you.sharing");
  const muted = view.muted && hasAudio(view.stream);
  if (view.cameraOff && hasVideo(view.stream)) return say(muted ? "you.unseen" : "you.cameraOff");
  return say(muted ? "you.muted" : "you");
}

/** In the lobby everybody who is connected; while we wait, everybody but us. */
export function onlineWords(view, others) {
  if (view.connections === null) return "";
  if (!others) return view.connections ? sayCount("online", view.connections) : say("online.none");
  return view.connections > 1 ? sayCount("online.with", view.connections - 1) : say("online.alone");
}
