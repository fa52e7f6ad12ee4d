/**
 * The page of curhat_trio: what a person sees and presses, drawn from what the client tells. The protocol stands in
 * curhat.js, what the page says of how things stand in standing.js, the words in words.js.
 */

import { Chat } from "/chat.js";
import { Curhat, parseTopics } from "/curhat.js";
import { Loudness, hasAudio, hasVideo, listDevices, openDevice, openMedia, stopTracks } from "/devices.js";
import { append, element, isolate, plain, setAttribute, setText, setWords } from "/drawing.js";
import { explainKeys, pressKey } from "/keys.js";
import { recall, remember } from "/memory.js";
import { clearNotices, drawNotices, isNoticed, notice } from "/notices.js";
import { detailsAreOpen, drawQuality, openDetails } from "/quality.js";
import { SelfView } from "/self-view.js";
import {
  onlineWords, partnerIsMuted, partnerName, scene as sceneOf, selfWords, stageWords, stateWords, titleWords,
} from "/standing.js";
import { holdPlace, othersAtWork } from "/tabs.js";
import { LANGUAGES, known, language, pickLanguage, say, sayCount, speak } from "/words.js";

const MOST_TOPICS = 5;
const MOST_LOG_LINES = 200;
const LOOK_INTERVAL = 1_000;
const ONLINE_INTERVAL = 10_000;
const LEVEL_INTERVAL = 100;
/**
 * What to ask for when the screen is shared. Its sound is taken as it is; that of the whole system is left out, for
 * our partner would hear themselves in it.
 */
const SCREEN = {
  video: true,
  audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  systemAudio: "exclude",
};
const WIDE = matchMedia("(min-width: 60rem)");

const ui = {
  main: document.querySelector("main"), room: document.querySelector(".room"),
  setup: element("setup"), name: element("name"), topics: element("topics"), language: element("language"),
  start: element("start"), next: element("next"), stop: element("stop"),
  preview: element("preview"), previewEnd: element("preview-end"),
  mute: element("mute"), camera: element("camera"), share: element("share"), full: element("full"),
  choose: element("choose"), chatToggle: element("chat-toggle"), chatToggleWords: element("chat-toggle-words"),
  unread: element("unread"), quality: element("quality"), report: element("report"), block: element("block"),
  help: element("help"), stage: element("stage"), local: element("local"), remote: element("remote"),
  screen: element("screen"), self: element("self"), selfName: element("self-name"), selfMove: element("self-move"),
  remoteNote: element("remote-note"), partnerMuted: element("partner-muted"), waitingOnline: element("waiting-online"), online: element("online"),
  state: element("state"), announcement: element("announcement"),
  devices: element("devices"), speakerPlace: element("speaker-place"), level: element("level"),
  choices: { video: element("camera-choice"), audio: element("microphone-choice"), speaker: element("speaker-choice") },
  helpDialog: element("help-dialog"),
  reportDialog: element("report-dialog"), blockDialog: element("block-dialog"),
  diagnostics: element("diagnostics"), log: element("diag-log"),
};

/** What the page knows beyond the client's own state. */
const view = {
  /** @type {MediaStream|null} */ stream: null,
  /** @type {MediaStream|null} our screen */ screen: null,
  /** @type {MediaStream|null} the partner's */ remoteScreen: null,
  /** @type {Loudness|null} */ loudness: null,
  starting: false,
  startNumber: 0,
  muted: false,
  cameraOff: false,
  media: "",
  /** Why the last conversation ended; in any language. @type {(() => string)|null} */ ending: null,
  rejoined: false,
  /** What was announced of the partner's microphone and camera. */ partnerMedia: { audio: true, video: true },
  resuming: false,
  /** The page was hidden for good or frozen, and the client has left. */ asleep: false,
  away: false,
  /** @type {{delaySeconds: number}|null} */ retry: null,
  connecting: false,
  /** Open or closed by hand; null: as the window has room. @type {boolean|null} */ chatOpen: null,
  devicesOpen: false,
  /** Who may be reported or blocked. */ partnerName: "",
  /** @type {number|null} */ connections: null,
  /** @type {any} */ stats: null,
};

const client = new Curhat({ url: socketAddress(location) });
window.curhat = client;

const chat = new Chat({
  send: sendChat,
  typing: (active) => client.typing(active),
  changed: () => draw(),
});

/** @param {Location} place */
function socketAddress(place) {
  return `${place.protocol === "https:" ? "wss" : "ws"}://${place.host}/ws`;
}

// --- what the page is about at the moment ------------------------------------

const scene = () => sceneOf(client, view);
const isIdle = () => client.state === "connected" && !client.wantsPartner;
const hasLiveMedia = () => Boolean(view.stream?.getTracks().some((track) => track.readyState === "live"));
const canShare = () => Boolean(navigator.mediaDevices?.getDisplayMedia);
const chatIsOpen = () => client.has("chat") && (view.chatOpen ?? WIDE.matches);
const sentences = (keys) => keys.map((key) => say(key)).join(" ");

// --- drawing -----------------------------------------------------------------

let drawing = false;

/** Several things often happen at once: what they lead to is drawn, not what lies between. */
function draw() {
  if (drawing) return;
  drawing = true;
  queueMicrotask(drawNow);
}

function drawNow() {
  drawing = false;
  const focused = document.activeElement;
  document.title = plain(titleWords(client, view, chat.unread));
  setWords(ui.state, stateWords(client, view));
  ui.state.dataset.state = client.state;
  document.body.dataset.state = client.state;
  changeScene();
  document.body.dataset.chat = chatIsOpen() ? "open" : "closed";
  drawStage();
  drawButtons();
  drawChat();
  drawNotices();
  drawQuality(view.stats, client.talking ? view.media : "");
  holdPlace(scene() === "waiting" || scene() === "talk");
  rescueFocus(focused);
}

/** In a conversation everything lies within the window, if it is not scrolled. */
function changeScene() {
  if (document.body.dataset.scene === scene()) return;
  document.body.dataset.scene = scene();
  if (scene() !== "lobby") scrollTo(0, 0);
}

function drawStage() {
  const [words, waiting] = stageWords(client, view);
  setWords(ui.remoteNote, words);
  ui.stage.dataset.breath = waiting;
  ui.partnerMuted.hidden = !partnerIsMuted(client);
  ui.stage.dataset.note = ui.remote.srcObject || (scene() === "lobby" && view.stream) ? "over" : "alone";
  ui.stage.dataset.screen = view.remoteScreen !== null;
  ui.screen.hidden = view.remoteScreen === null;
  ui.self.hidden = !view.stream;
  ui.self.dataset.off = view.cameraOff || !hasVideo(view.stream);
  setText(ui.selfName, selfWords(view));
  ui.waitingOnline.hidden = client.state !== "waiting";
  setText(ui.waitingOnline, onlineWords(view, true));
  ui.online.hidden = scene() !== "lobby" || view.connections === null;
  setText(ui.online, onlineWords(view, false));
}

function drawButtons() {
  const here = scene();
  const { state } = client;
  ui.start.disabled = here !== "lobby" || view.starting || !(isIdle() || (state === "disconnected" && !view.connecting));
  ui.next.disabled = view.starting || !(client.talking || here === "ended");
  ui.stop.disabled = !(view.starting || client.active);
  ui.preview.hidden = here !== "lobby" || view.starting || view.stream !== null;
  ui.previewEnd.disabled = here !== "lobby" || view.starting || !view.stream;
  drawTool(ui.mute, say(view.muted ? "unmute" : "mute"), view.muted ? "microphone-off" : "microphone");
  drawTool(ui.camera, say(view.cameraOff ? "camera.on" : "camera.off"), view.cameraOff ? "camera-off" : "camera");
  ui.mute.disabled = !hasAudio(view.stream);
  ui.camera.disabled = !hasVideo(view.stream);
  ui.mute.dataset.off = view.muted && !ui.mute.disabled;
  ui.camera.dataset.off = view.cameraOff && !ui.camera.disabled;
  ui.mute.hidden = ui.camera.hidden = here === "lobby" && !view.stream;
  ui.share.hidden = here !== "talk" || !canShare();
  ui.share.dataset.on = view.screen !== null;
  drawTool(ui.share, say(view.screen ? "share.end" : "share"), "screen");
  ui.full.hidden = here === "lobby" || !document.fullscreenEnabled;
  drawTool(ui.full, say(document.fullscreenElement ? "full.end" : "full"), "full");
  ui.choose.hidden = here === "lobby" || !view.stream;
  setAttribute(ui.choose, "aria-expanded", view.devicesOpen);
  ui.devices.hidden = !view.stream || !(here === "lobby" || view.devicesOpen);
  ui.report.hidden = !view.partnerName || !["talk", "ended"].includes(here) || !client.has("report");
  ui.block.hidden = !view.partnerName || !["talk", "ended"].includes(here) || !client.has("block");
  ui.name.disabled = ui.topics.disabled = view.starting;
}

function drawTool(button, words, icon) {
  setText(button.querySelector("span"), words);
  setAttribute(button.querySelector("use"), "href", `#icon-${icon}`);
}

function drawChat() {
  chat.draw(client.talking && client.has("chat"), client.limits.chatCharacters ?? 2000);
  ui.chatToggle.hidden = scene() === "lobby" || !client.has("chat");
  setAttribute(ui.chatToggle, "aria-expanded", chatIsOpen());
  setText(ui.chatToggleWords, say("chat"));
  setText(ui.unread, chat.unread ? String(chat.unread) : "");
  ui.unread.hidden = chat.unread === 0;
  if (chat.unread) setAttribute(ui.chatToggle, "aria-label", say("chat.unread", { count: chat.unread }));
  else ui.chatToggle.removeAttribute("aria-label");
}

/** A control that is switched off or hidden loses the keyboard; go on from the state line. */
function rescueFocus(focused) {
  if (!focused || focused === document.body || !focused.isConnected) return;
  if (focused.matches(":disabled") || !focused.checkVisibility()) ui.state.focus({ preventScroll: true });
}

/** Says something that only those need to be told who do not see it. */
function announce(words) {
  setText(ui.announcement, plain(words));
}

// --- language ----------------------------------------------------------------

/** @param {"en"|"id"} chosen */
function changeLanguage(chosen) {
  speak(chosen);
  document.documentElement.lang = chosen;
  for (const node of document.querySelectorAll("[data-words]")) setText(node, say(node.dataset.words));
  for (const name of ["placeholder", "aria-label"]) {
    for (const node of document.querySelectorAll(`[data-words-${name}]`)) {
      setAttribute(node, name, say(node.getAttribute(`data-words-${name}`)));
    }
  }
  setAttribute(document.querySelector("meta[name=description]"), "content", say("description"));
  explainKeys(KEYS);
  drawDeviceChoices();
  draw();
}

function offerLanguages() {
  const options = Object.entries(LANGUAGES).map(([tag, name]) => {
    const option = new Option(name, tag);
    option.lang = tag;
    return option;
  });
  ui.language.replaceChildren(...options);
}

// --- camera and microphone ---------------------------------------------------

/** @returns {{video: string, audio: string}} */
const deviceChoice = () => ({ video: recall("video", ""), audio: recall("audio", "") });

/** @param {MediaStream|null} stream */
function useStream(stream) {
  view.stream = stream;
  if (ui.local.srcObject !== stream) ui.local.srcObject = stream;
  client.setLocalStream(stream);
  applySwitches();
  for (const track of stream?.getTracks() ?? []) track.onended = () => trackEnded(track);
  listenToSelf();
  drawDeviceChoices();
}

function trackEnded(track) {
  const words = track.kind === "video" ? "media.lostCamera" : "media.lostMicrophone";
  notice("media", () => sentences([words, "media.again"]), reopenMedia);
  draw();
}

function applySwitches() {
  for (const track of view.stream?.getAudioTracks() ?? []) track.enabled = !view.muted;
  for (const track of view.stream?.getVideoTracks() ?? []) track.enabled = !view.cameraOff;
}

function releaseMedia() {
  stopTracks(view.stream);
  useStream(null);
}

/** @returns {Promise<boolean>} false if Stop was pressed meanwhile */
async function prepareMedia() {
  const number = ++view.startNumber;
  view.starting = true;
  draw();
  const { stream, problem } = await openMedia(deviceChoice());
  if (number !== view.startNumber) {
    stopTracks(stream);
    return false;
  }
  view.starting = false;
  useStream(stream);
  notice("media", problem.length ? () => sentences(problem) : null, reopenMedia);
  return true;
}

/** Something was in the way and perhaps is no more; a conversation goes on meanwhile. */
async function reopenMedia() {
  if (view.starting) return;
  notice("media", null);
  const before = view.stream;
  await prepareMedia();
  stopTracks(before);
  draw();
}

async function preview() {
  await prepareMedia();
  draw();
}

function endPreview() {
  releaseMedia();
  draw();
}

/** @param {"video"|"audio"} kind @param {string} id */
async function changeDevice(kind, id) {
  try {
    const track = await openDevice(kind, id);
    if (!view.stream) {
      track.stop();
      return;
    }
    const others = view.stream.getTracks().filter((each) => each.kind !== kind);
    const replaced = view.stream.getTracks().filter((each) => each.kind === kind);
    remember({ [kind]: id });
    useStream(new MediaStream([track, ...others]));
    stopTracks(new MediaStream(replaced));
    notice("media", null);
  } catch {
    notice("media", () => say("media.notChanged"));
    drawDeviceChoices();
  }
  draw();
}

/** @param {string} id */
const useSpeaker = (id) => Promise.all([ui.remote, ui.screen].map((video) => video.setSinkId?.(id)));

async function changeSpeaker(id) {
  try {
    await useSpeaker(id);
    remember({ speaker: id });
    notice("speaker", null);
  } catch {
    notice("speaker", () => say("media.speaker"));
  }
  draw();
}

async function drawDeviceChoices() {
  const { videoinput, audioinput, audiooutput } = await listDevices();
  const used = (kind) => view.stream?.getTracks().find((track) => track.kind === kind)?.getSettings().deviceId ?? "";
  fillChoice(ui.choices.video, videoinput, used("video"), "devices.camera");
  fillChoice(ui.choices.audio, audioinput, used("audio"), "devices.microphone");
  const canChoose = typeof ui.remote.setSinkId === "function" && audiooutput.length > 1;
  ui.speakerPlace.hidden = !canChoose;
  if (canChoose) fillChoice(ui.choices.speaker, audiooutput, ui.remote.sinkId || "default", "devices.speaker");
}

function fillChoice(select, devices, used, words) {
  const options = devices.map(({ id, label }, index) => new Option(
    label || say("devices.unnamed", { kind: say(words), number: index + 1 }), id, id === used, id === used,
  ));
  const same = options.map(({ value, text }) => value + text).join() === [...select.options].map(({ value, text }) => value + text).join();
  if (!same) select.replaceChildren(...options);
  select.value = used;
  select.disabled = options.length === 0;
}

/** The microphone's level is measured where it can be seen. */
function listenToSelf() {
  view.loudness?.close();
  view.loudness = hasAudio(view.stream) ? new Loudness(view.stream) : null;
}

function drawLevel() {
  if (view.loudness && ui.level.checkVisibility()) ui.level.value = view.muted ? 0 : view.loudness.now;
}

// --- what the person does ----------------------------------------------------

async function start() {
  if (view.starting || client.talking) return;
  view.ending = null;
  clearNotices();
  rememberFields();
  if (!hasLiveMedia() && !(await prepareMedia())) return;
  client.start(joinOptions());
  look();
  countOnline();
  draw();
}

function joinOptions() {
  return {
    username: ui.name.value.replace(/\p{Cc}/gu, "").trim() || "anonymous",
    topics: parseTopics(ui.topics.value, MOST_TOPICS),
  };
}

function next() {
  if (!client.talking) {
    start();
    return;
  }
  clearNotices();
  view.ending = null;
  chat.note(say("chat.youLeft"));
  client.next();
  draw();
}

function stop() {
  view.startNumber += 1;
  view.starting = false;
  view.ending = null;
  clearNotices();
  view.devicesOpen = false;
  if (client.talking) chat.note(say("chat.youLeft"));
  client.disconnect();
  releaseMedia();
  draw();
}

function toggleMute() {
  view.muted = !view.muted;
  applySwitches();
  draw();
}

function toggleCamera() {
  view.cameraOff = !view.cameraOff;
  applySwitches();
  draw();
}

async function toggleShare() {
  if (view.screen) endShare();
  else await beginShare();
  draw();
}

async function beginShare() {
  const { partner } = client;
  try {
    const screen = await navigator.mediaDevices.getDisplayMedia(SCREEN);
    if (client.partner !== partner || !client.talking || view.screen) {
      stopTracks(screen);
      return;
    }
    view.screen = screen;
    screen.getVideoTracks()[0].onended = () => { endShare(); draw(); };
    if (!client.shareScreen(screen)) endShare();
    notice("share", null);
  } catch (error) {
    // Whoever closes the browser's question has changed their mind.
    if (error.name !== "NotAllowedError" || error.message.includes("system")) notice("share", () => say("share.refused"));
  }
}

function endShare() {
  if (!view.screen) return;
  stopTracks(view.screen);
  view.screen = null;
  client.stopSharing();
}

/** It was meant for this partner. */
function tellShareOver() {
  endShare();
  chat.note(say("share.over"));
  announce(say("share.over"));
}

async function toggleFull() {
  if (document.fullscreenElement) await document.exitFullscreen();
  else await ui.main.requestFullscreen().catch(() => {});
}

function toggleChat() {
  view.chatOpen = !chatIsOpen();
  drawNow();
  chat.read();
  if (view.chatOpen) chat.focus();
}

function writeMessage() {
  if (scene() === "lobby") return;
  view.chatOpen = true;
  drawNow();
  chat.read();
  chat.focus();
}

/** What lies over the stage: one of the two at most. */
function toggleDetails() {
  openDetails(!detailsAreOpen());
  view.devicesOpen = false;
  draw();
}

function toggleDevices() {
  view.devicesOpen = !view.devicesOpen;
  openDetails(false);
  draw();
}

/** @param {string} text @returns {boolean} whether it was sent; otherwise it stays where it was written */
function sendChat(text) {
  const sent = client.chat(text);
  const words = view.resuming ? "chat.unsent.resuming" : "chat.unsent";
  notice("unsent", sent || !text.trim() ? null : () => say(words));
  draw();
  return sent;
}

function rememberFields() {
  ui.topics.value = parseTopics(ui.topics.value, MOST_TOPICS).join(", ");
  remember({ name: ui.name.value, topics: ui.topics.value });
}

// --- dialogs -----------------------------------------------------------------

/** @param {HTMLDialogElement} dialog */
function ask(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
}

function askReport() {
  setWords(element("report-title"), say("report.title", { name: view.partnerName }));
  ui.reportDialog.querySelector("form").reset();
  ask(ui.reportDialog);
}

function askBlock() {
  setWords(element("block-title"), say("block.title", { name: view.partnerName }));
  ask(ui.blockDialog);
}

function reportAnswered() {
  if (ui.reportDialog.returnValue !== "send") return;
  const { reason, detail } = Object.fromEntries(new FormData(ui.reportDialog.querySelector("form")));
  client.report(reason, detail.trim() || undefined);
  chat.note(say("report.done"));
  announce(say("report.done"));
  draw();
}

function blockAnswered() {
  if (ui.blockDialog.returnValue !== "block") return;
  const done = say("block.done", { name: view.partnerName });
  client.block();
  if (client.talking) next();
  chat.note(done);
  announce(done);
  view.partnerName = "";
  draw();
}

// --- keys --------------------------------------------------------------------

/** @type {import("/keys.js").Keys} */
const KEYS = {
  s: { words: "key.start", does: () => ui.start },
  n: { words: "key.next", does: () => ui.next },
  x: { words: "key.stop", does: () => ui.stop },
  m: { words: "key.mute", does: () => ui.mute },
  v: { words: "key.camera", does: () => ui.camera },
  d: { words: "key.share", does: () => ui.share },
  f: { words: "key.full", does: () => ui.full },
  c: { words: "key.chat", does: writeMessage },
  q: { words: "key.quality", does: () => ui.quality },
  "?": { words: "key.help", does: () => ui.help },
};

function onKeyDown(event) {
  if (event.key === "Escape") onEscape();
  pressKey(KEYS, event);
}

function onEscape() {
  openDetails(false);
  view.devicesOpen = false;
  draw();
  if (document.activeElement?.id === "chat-text") ui.state.focus({ preventScroll: true });
}

// --- what the client tells ---------------------------------------------------

function onConnection({ detail }) {
  view.connecting = detail.phase === "connecting";
  view.retry = detail.phase === "retrying" ? detail : null;
  view.resuming = detail.phase === "resuming";
  if (detail.phase === "open") onOpen(detail);
  if (detail.phase === "resumed") onResumed();
  if (detail.phase === "retrying") onRetrying(detail);
  if (detail.phase === "closed" && detail.kind === "asleep") view.asleep = true;
  else if (detail.phase === "closed" && detail.kind !== "asked") onClosed(detail);
  if (detail.phase === "connecting" && view.asleep) onAwake();
  draw();
}

/** The browser may have taken camera and microphone away meanwhile. */
function onAwake() {
  view.asleep = false;
  if (view.stream && !hasLiveMedia()) reopenMedia();
}

function onOpen({ rejoining }) {
  view.rejoined = rejoining;
  notice("connection", null);
}

function onResumed() {
  notice("unsent", null);
  if (!client.talking) return;
  chat.note(say("chat.resumed"));
  announce(say("chat.resumed"));
}

function onRetrying({ kind, rejoining }) {
  const why = () => (kind === "unreachable" && !navigator.onLine ? "offline" : known(`retry.${kind}`) ? kind : "unreachable");
  notice("connection", () => sentences([`retry.${why()}`, "retry.again", ...(rejoining ? ["retry.rejoin"] : [])]));
  view.ending = null;
}

function onClosed({ kind }) {
  const keys = [[`final.${kind}`], [`retry.${kind}`, "final.again"]].find(([key]) => known(key)) ?? ["final.ended"];
  notice("connection", () => sentences(keys));
  view.ending = null;
  view.devicesOpen = false;
  releaseMedia();
}

function onPaired({ detail: { partner } }) {
  view.media = "connecting";
  view.stats = null;
  view.ending = null;
  view.rejoined = false;
  view.away = false;
  view.partnerName = partnerName(partner);
  for (const subject of ["connection", "refused", "video"]) notice(subject, null);
  for (const dialog of [ui.reportDialog, ui.blockDialog]) dialog.close();
  chat.begin();
  const common = partner.topics.length ? ` ${say("chat.common", { topics: partner.topics.map(isolate).join(", ") })}` : "";
  chat.note(say("chat.with", { name: partnerName(partner) }) + common);
  draw();
}

function onPartnerLeft({ detail: { partner, reason } }) {
  const key = known(`left.${reason}`) ? `left.${reason}` : "left.left";
  view.ending = () => say(key, { name: partnerName(partner) });
  chat.note(view.ending());
  draw();
}

function onStateChange({ detail: { state, previous } }) {
  const wasTalking = previous === "paired" || previous === "negotiating";
  if (wasTalking && state !== "paired" && state !== "negotiating") onTalkOver(state);
  draw();
}

function onTalkOver(state) {
  view.away = false;
  for (const subject of ["video", "share", "unsent"]) notice(subject, null);
  chat.end();
  if (view.screen) tellShareOver();
  if (state === "disconnected" && client.wantsPartner) chat.note(say("chat.lost"));
}

function onRemoteStream({ detail: { stream } }) {
  if (ui.remote.srcObject !== stream) ui.remote.srcObject = stream;
  notice("play", null);
  play(ui.remote);
  if (!stream) view.media = "";
  draw();
}

/** Not every browser lets a page make sound by itself. @param {HTMLVideoElement} video */
async function play(video) {
  video.controls = false;
  try {
    if (video.srcObject) await video.play();
  } catch (error) {
    if (error.name !== "NotAllowedError") return;
    video.controls = true;
    notice("play", () => say("media.play"));
    draw();
  }
}

function onRemoteScreen({ detail: { stream } }) {
  view.remoteScreen = stream;
  if (ui.screen.srcObject !== stream) ui.screen.srcObject = stream;
  play(ui.screen);
  draw();
}

function onMedia({ detail: { media, stage } }) {
  view.media = media;
  const words = `failed.${stage}`;
  notice("video", media === "failed" && known(words) ? () => say(words) : null);
  if (media === "failed") view.chatOpen = true;
  draw();
}

function onAway({ detail: { away } }) {
  view.away = away;
  chat.partnerTyping("");
  if (!away) chat.note(say("chat.back", { name: view.partnerName }));
  draw();
}

function onChat({ detail: { text, username } }) {
  chat.receive(username || say("partner"), text);
  if (chat.unread) announce(say("chat.new", { name: username || say("partner") }));
}

function onTyping({ detail: { active } }) {
  chat.partnerTyping(active ? say("chat.typing", { name: view.partnerName }) : "");
}

/** @param {{detail: {audio: boolean, video: boolean}}} event */
function onPartnerMedia({ detail }) {
  const name = view.partnerName;
  const before = view.partnerMedia;
  view.partnerMedia = detail;
  if (client.talking) {
    const audio = detail.audio === before.audio ? [] : [say(detail.audio ? "partner.unmuted" : "partner.muted", { name })];
    const video = detail.video === before.video ? [] : [say(detail.video ? "partner.cameraOn" : "partner.cameraOff", { name })];
    announce([...audio, ...video].join(" "));
  }
  draw();
}

function onRefused({ detail: { code, ref, retryAfterSeconds, retrying } }) {
  if (retrying) return;
  const what = ref === "chat" ? "refused.chat" : "refused.request";
  const why = [`refused.${ref}.${code}`, `refused.${code}`].find(known) ?? "refused.other";
  const wait = Math.ceil(retryAfterSeconds ?? 0);
  notice("refused", () => [
    say(what), say(why, { code }), ...(wait ? [say("refused.wait", { time: sayCount("seconds", wait) })] : []),
  ].join(" "));
  draw();
}

/** The rest is shown by what becomes of the connection. */
function onUnanswered({ detail: { type } }) {
  if (type === "offer" && view.media === "connected") notice("video", () => say("unanswered.offer"));
  draw();
}

// --- looking again and again -------------------------------------------------

const ARROWS = { in: "←", out: "→", note: "·" };

function onLog({ detail: { direction, type, extra } }) {
  const line = document.createElement("li");
  const time = new Date().toTimeString().slice(0, 8);
  line.textContent = `${time} ${ARROWS[direction]} ${type}${extra ? ` (${extra})` : ""}`;
  append(ui.log, line, MOST_LOG_LINES);
}

/** At the call's figures, and whether another tab is at work. */
async function look() {
  view.stats = await client.stats().catch(() => null);
  const busy = scene() === "waiting" || scene() === "talk";
  const doubled = busy && (await othersAtWork()) > 0;
  if (doubled !== isNoticed("tabs")) notice("tabs", doubled ? () => say("tabs") : null);
  drawDiagnostics();
  draw();
}

function drawDiagnostics() {
  const { pc } = client;
  const { stats } = view;
  setText(element("diag-connection"), pc?.connectionState ?? "–");
  setText(element("diag-ice"), pc?.iceConnectionState ?? "–");
  setText(element("diag-signaling"), pc?.signalingState ?? "–");
  setText(element("diag-frames"), stats ? String(stats.framesDecoded) : "–");
  setText(element("diag-pair"), stats?.localCandidate
    ? `${stats.localCandidate} – ${stats.remoteCandidate} (${stats.transport})` : "–");
  setText(element("diag-rtt"), stats?.rttMilliseconds == null ? "–" : `${stats.rttMilliseconds} ms`);
}

/** How many are connected; asked for only where it is shown. */
async function countOnline() {
  if (document.hidden || !["lobby", "waiting"].includes(scene())) return;
  try {
    const { data } = await (await fetch("/health")).json();
    view.connections = data.connections;
  } catch {
    view.connections = null;
  }
  draw();
}

// --- wiring ------------------------------------------------------------------

ui.setup.addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
for (const [button, action] of [
  [ui.next, next], [ui.stop, stop], [ui.preview, preview], [ui.previewEnd, endPreview], 
  [ui.mute, toggleMute], [ui.camera, toggleCamera], [ui.share, toggleShare], [ui.full, toggleFull],
  [ui.chatToggle, toggleChat], [ui.quality, toggleDetails], [ui.report, askReport], [ui.block, askBlock], [ui.help, () => ask(ui.helpDialog)],
  [ui.choose, toggleDevices],
]) button.addEventListener("click", action);
ui.reportDialog.addEventListener("close", reportAnswered);
ui.blockDialog.addEventListener("close", blockAnswered);
ui.choices.video.addEventListener("change", () => changeDevice("video", ui.choices.video.value));
ui.choices.audio.addEventListener("change", () => changeDevice("audio", ui.choices.audio.value));
ui.choices.speaker.addEventListener("change", () => changeSpeaker(ui.choices.speaker.value));
ui.language.addEventListener("change", () => {
  remember({ language: ui.language.value });
  changeLanguage(ui.language.value);
});
document.addEventListener("keydown", onKeyDown);
document.addEventListener("fullscreenchange", draw);
navigator.mediaDevices?.addEventListener?.("devicechange", drawDeviceChoices);
WIDE.addEventListener("change", draw);

for (const [name, listener] of Object.entries({
  connection: onConnection, statechange: onStateChange, paired: onPaired, partnerleft: onPartnerLeft,
  remotestream: onRemoteStream, remotescreen: onRemoteScreen, media: onMedia, away: onAway,
  chat: onChat, typing: onTyping, partnermedia: onPartnerMedia, refused: onRefused, unanswered: onUnanswered, log: onLog,
})) client.addEventListener(name, listener);
window.addEventListener("online", () => {
  notice("offline", null);
  client.retryNow();
  draw();
});
window.addEventListener("offline", () => {
  if (client.active) notice("offline", () => sentences(["retry.offline", "retry.again"]));
  draw();
});

new SelfView(ui.self, ui.selfMove, {
  corner: recall("corner", ""),
  movable: () => scene() !== "lobby",
  moved: (corner) => {
    remember({ corner });
    announce(say("move.done", { corner: say(`corner.${corner}`) }));
  },
});
ui.name.value = recall("name", "");
ui.topics.value = recall("topics", "");
if (recall("speaker", "")) useSpeaker(recall("speaker", "")).catch(() => {});
ui.diagnostics.open = location.pathname === "/test-client";
offerLanguages();
ui.language.value = pickLanguage(recall("language", ""), navigator.languages);
changeLanguage(ui.language.value);
countOnline();
setInterval(look, LOOK_INTERVAL);
setInterval(countOnline, ONLINE_INTERVAL);
setInterval(drawLevel, LEVEL_INTERVAL);
