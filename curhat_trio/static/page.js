/** The page of curhat_trio: everything a person sees and presses. */

import { Curhat, parseTopics } from "/curhat.js";

const PRODUCT = "curhat_trio";
const MOST_TOPICS = 5;
const MOST_LOG_LINES = 200;
const MOST_CHAT_LINES = 500;
const STATS_INTERVAL = 1_000;
const STORAGE_KEY = "curhat_trio";

/** Words for the end of a connection which is tried again by itself. */
const RETRY_WORDS = {
  unreachable: "The server cannot be reached. It may be restarting, or your network is down.",
  shutdown: "The server is restarting.",
  slow: "Your connection was too slow to keep up.",
  no_pong: "The server heard nothing from this page for too long.",
  rate_limited: "This page sent too much in a short time.",
  internal: "Something went wrong in the server.",
  busy: "The server has too much to do at the moment.",
};

/** Words for the end of a connection which only the person can start again. */
const FINAL_WORDS = {
  ended: "The server has ended the connection. Press Start to connect again.",
  bad_token: "The server did not accept this page's access token. Reload the page, then press Start.",
  protocol: "The server did not understand this page. Reload the page, then press Start.",
  silent: "The connection was closed because nothing happened for a while. Press Start when you are ready.",
  version: "This page is older or newer than the server. Reload the page, then press Start.",
  banned: "The server does not admit you at the moment. Trying again will not help now; come back later.",
  replaced: "You have connected from another window or device. Go on there, or press Start to go on here.",
  origin: "The server does not accept connections from this address. Open the page at the server's own address.",
  too_many: "There are already too many connections from your network. Close other windows of this page, then press Start.",
};

/** Why a conversation ended, told to the one who did not end it. */
const LEAVE_WORDS = {
  left: (name) => `${name} has left the conversation.`,
  next: (name) => `${name} has moved on to somebody else.`,
  peer_lost: (name) => `The connection of ${name} broke off.`,
  negotiation_timeout: () => "Video and sound could not be set up in time.",
  media_failed: () => "No video connection came about between the two of you.",
  reported: () => "The conversation was ended after a report.",
  server_shutdown: () => "The server is restarting and has ended the conversation.",
};

/** Why camera or microphone cannot be used, and what to do. */
const MEDIA_WORDS = {
  insecure: "The browser gives no camera or microphone to this page because its address is not secure. Open it with https:// (or on localhost).",
  NotFoundError: "No camera and no microphone was found. Plug one in or switch it on.",
  NotAllowedError: "Camera and microphone are not permitted. Allow them for this page in the browser's address bar or settings.",
  NotReadableError: "The camera or microphone is used by another program. Close that program.",
  other: "Camera and microphone could not be started.",
};
const MEDIA_RETRY = "To try again, press Stop and then Start.";
const RECEIVE_ONLY = "You can go on without: you see and hear your partner and can write, but your partner neither sees nor hears you.";

const REFUSED_WORDS = {
  rate_limited: "That was too much in a short time.",
  unsupported: "The server does not offer this.",
};
const REFUSED_CHAT_WORDS = { unsupported: "Your partner's program has no text chat." };

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

const ui = {
  setup: element("setup"), name: element("name"), topics: element("topics"),
  start: element("start"), next: element("next"), stop: element("stop"),
  mute: element("mute"), camera: element("camera"),
  local: element("local"), remote: element("remote"), remoteNote: element("remote-note"),
  state: element("state"), error: element("error"),
  chatLog: element("chat-log"), chatForm: element("chat-form"),
  chatText: element("chat-text"), chatSend: element("chat-send"),
  diagnostics: element("diagnostics"), log: element("diag-log"),
};

/** What the page knows beyond the client's own state. */
const view = {
  /** @type {MediaStream|null} */ stream: null,
  starting: false,
  startNumber: 0,
  muted: false,
  cameraOff: false,
  media: "",
  ending: "",
  rejoined: false,
  /** @type {{delaySeconds: number}|null} */ retry: null,
  connecting: false,
  /** @type {Map<string, string>} */ notices: new Map(),
};

const client = new Curhat({ url: socketAddress(location) });
window.curhat = client;

/** @param {Location} place */
function socketAddress(place) {
  return `${place.protocol === "https:" ? "wss" : "ws"}://${place.host}/ws`;
}

// --- words -------------------------------------------------------------------

/** Keeps a stranger's name from turning round the text beside it. */
const isolate = (text) => `\u2068${text.replace(/[\u2066-\u2069\u202a-\u202e]/g, "")}\u2069`;
const partnerName = (partner) => isolate(partner?.username || "Your partner");
const seconds = (number) => (number === 1 ? "1 second" : `${number} seconds`);

function stateWords() {
  if (view.starting) return "Asking for camera and microphone. Answer the question of your browser.";
  switch (client.state) {
    case "disconnected": return disconnectedWords();
    case "connected": return connectedWords();
    case "waiting": return `${backWords()}Waiting for a partner.`;
    case "paired": return `Paired with ${partnerName(client.partner)}. Starting video.`;
    default: return talkingWords();
  }
}

function disconnectedWords() {
  if (view.retry) {
    const wait = Math.max(1, Math.round(view.retry.delaySeconds));
    return `Not connected. Trying again in about ${seconds(wait)}.`;
  }
  if (view.connecting) return "Connecting to the server.";
  return "Not connected. Press Start.";
}

const backWords = () => (view.rejoined ? "The connection to the server is back. " : "");

function connectedWords() {
  if (client.wantsPartner && view.ending) return `${view.ending} This page connects again by itself.`;
  if (client.wantsPartner) return `${backWords() || "Connected. "}Looking for a partner.`;
  if (view.ending) return `${view.ending} Press Next or Start to find somebody else.`;
  return "Connected. Press Start to find a partner.";
}

function talkingWords() {
  const name = partnerName(client.partner);
  if (view.media === "connected") return `Talking with ${name}.`;
  if (view.media === "interrupted") return `The video to ${name} was interrupted. Trying to bring it back.`;
  if (view.media === "failed") return `No video connection to ${name}. You can still write, or press Next.`;
  return `Paired with ${name}. Starting video.`;
}

function titleWords() {
  if (client.talking) return `${client.partner?.username || "Your partner"} – ${PRODUCT}`;
  if (view.retry) return `Reconnecting – ${PRODUCT}`;
  if (client.state === "waiting") return `Waiting – ${PRODUCT}`;
  if (view.ending) return `Conversation ended – ${PRODUCT}`;
  return `${PRODUCT} – talk with somebody`;
}

function remoteWords() {
  if (!client.talking) return client.state === "waiting" ? "Waiting for a partner." : "Your partner appears here.";
  if (view.media === "failed") return "No video connection.";
  if (view.media !== "connected") return "Starting video.";
  return hasVideo(client.remoteStream) ? "" : "Your partner has no camera.";
}

// --- drawing -----------------------------------------------------------------

const hasVideo = (stream) => Boolean(stream?.getVideoTracks().length);
const hasAudio = (stream) => Boolean(stream?.getAudioTracks().length);

/** Changes text only where it differs, so that a live region is not read twice. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Our own words: what `isolate` marked in them becomes an element of its own. */
function setWords(node, words) {
  const parts = words.split(/[\u2068\u2069]/);
  if (node.textContent === parts.join("")) return;
  node.replaceChildren(...parts.map((part, index) => (index % 2 ? nameNode(part) : part)));
}

function nameNode(name) {
  const node = document.createElement("bdi");
  node.textContent = name;
  return node;
}

function draw() {
  setWords(ui.state, stateWords());
  ui.state.dataset.state = client.state;
  document.body.dataset.state = client.state;
  document.body.toggleAttribute("data-busy", client.talking || client.state === "waiting");
  document.title = titleWords();
  setText(ui.remoteNote, remoteWords());
  drawButtons();
  drawError();
}

function drawButtons() {
  const { state } = client;
  const idle = state === "connected" && !client.wantsPartner;
  const mayStart = !view.starting && (idle || (state === "disconnected" && !view.connecting));
  ui.start.disabled = !mayStart;
  ui.next.disabled = view.starting || !(client.talking || (idle && view.ending !== ""));
  ui.stop.disabled = !(view.starting || client.active || view.stream);
  ui.mute.disabled = !hasAudio(view.stream);
  ui.camera.disabled = !hasVideo(view.stream);
  ui.mute.textContent = view.muted ? "Unmute" : "Mute";
  ui.camera.textContent = view.cameraOff ? "Camera on" : "Camera off";
  ui.chatForm.hidden = !client.has("chat");
  ui.chatText.disabled = !client.talking;
  ui.chatSend.disabled = !client.talking;
  const fixed = view.starting || client.talking || state === "waiting";
  ui.name.disabled = fixed;
  ui.topics.disabled = fixed;
  rescueFocus();
}

/** A control that is switched off loses the keyboard; go on from the state line. */
function rescueFocus() {
  if (document.activeElement?.matches(":disabled")) ui.state.focus({ preventScroll: true });
}

function drawError() {
  const texts = [...view.notices.values()];
  const shown = [...ui.error.children].map((child) => child.textContent);
  if (texts.join("\n") === shown.join("\n")) return;
  ui.error.replaceChildren(...texts.map((text) => paragraph(text)));
  ui.error.hidden = texts.length === 0;
}

/** @param {string} subject one notice per subject @param {string} [text] none removes it */
function notice(subject, text) {
  if (text) view.notices.set(subject, text);
  else view.notices.delete(subject);
}

function paragraph(text, className = "") {
  const node = document.createElement("p");
  node.className = className;
  node.textContent = text;
  node.dir = "auto";
  return node;
}

/** Appends, drops the oldest, and stays at the end unless the person scrolled up. */
function append(list, node, most) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(node);
  while (list.children.length > most) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

/** @param {"own"|"partner"} kind */
function addChat(kind, who, text) {
  const node = paragraph(text, kind);
  const label = document.createElement("span");
  label.className = "who";
  label.textContent = who;
  node.prepend(label);
  append(ui.chatLog, node, MOST_CHAT_LINES);
}

function addNote(words) {
  const node = paragraph("", "system");
  setWords(node, words);
  append(ui.chatLog, node, MOST_CHAT_LINES);
}

// --- camera and microphone ---------------------------------------------------

/** Which devices to ask for, one after the other, after the first question failed. */
function fallbacks(errorName) {
  if (errorName === "NotAllowedError" || errorName === "SecurityError") return [];
  return [{ audio: true, video: false }, { audio: false, video: true }];
}

/** @returns {Promise<{stream: MediaStream|null, problem: string}>} */
async function openMedia() {
  if (!navigator.mediaDevices?.getUserMedia) return { stream: null, problem: MEDIA_WORDS.insecure };
  try {
    const video = { width: { ideal: 640 }, height: { ideal: 480 } };
    return { stream: await navigator.mediaDevices.getUserMedia({ audio: true, video }), problem: "" };
  } catch (error) {
    return openSomeMedia(error.name);
  }
}

async function openSomeMedia(errorName) {
  for (const wanted of fallbacks(errorName)) {
    try {
      const stream = await navigator.mediaDevices.getUserMedia(wanted);
      return { stream, problem: partialWords(wanted, errorName) };
    } catch {
      // The first failure is the one to explain.
    }
  }
  const name = errorName === "SecurityError" ? "NotAllowedError" : errorName;
  return { stream: null, problem: MEDIA_WORDS[name] ?? MEDIA_WORDS.other };
}

function partialWords(wanted, errorName) {
  const missing = wanted.audio ? "camera" : "microphone";
  const present = wanted.audio ? "microphone" : "camera";
  const why = errorName === "NotReadableError"
    ? `The ${missing} is used by another program. Close that program.`
    : `No usable ${missing} was found.`;
  return `${why} You go on with the ${present} alone. ${MEDIA_RETRY}`;
}

/** @param {MediaStream|null} stream */
function useStream(stream) {
  view.stream = stream;
  ui.local.srcObject = stream;
  client.setLocalStream(stream);
  applySwitches();
  for (const track of stream?.getTracks() ?? []) track.onended = () => trackEnded(track);
}

function trackEnded(track) {
  const device = track.kind === "video" ? "camera" : "microphone";
  notice("media", `The ${device} was unplugged or its permission withdrawn. ${MEDIA_RETRY}`);
  draw();
}

function applySwitches() {
  for (const track of view.stream?.getAudioTracks() ?? []) track.enabled = !view.muted;
  for (const track of view.stream?.getVideoTracks() ?? []) track.enabled = !view.cameraOff;
}

function stopTracks(stream) {
  for (const track of stream?.getTracks() ?? []) {
    track.onended = null;
    track.stop();
  }
}

function releaseMedia() {
  stopTracks(view.stream);
  useStream(null);
}

function hasLiveMedia() {
  return Boolean(view.stream?.getTracks().some((track) => track.readyState === "live"));
}

// --- what the person does ----------------------------------------------------

async function start() {
  if (view.starting || client.talking) return;
  view.ending = "";
  view.notices.clear();
  remember();
  if (!hasLiveMedia() && !(await prepareMedia())) return;
  client.start(joinOptions());
  draw();
}

/** @returns {Promise<boolean>} false if Stop was pressed meanwhile */
async function prepareMedia() {
  const number = ++view.startNumber;
  view.starting = true;
  draw();
  const { stream, problem } = await openMedia();
  if (number !== view.startNumber) {
    stopTracks(stream);
    return false;
  }
  view.starting = false;
  useStream(stream);
  if (problem) notice("media", stream ? problem : `${problem} ${MEDIA_RETRY} ${RECEIVE_ONLY}`);
  return true;
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
  view.notices.clear();
  view.ending = "";
  addNote("You have left this conversation.");
  client.next();
  draw();
}

function stop() {
  view.startNumber += 1;
  view.starting = false;
  view.ending = "";
  view.notices.clear();
  if (client.talking) addNote("You have left this conversation.");
  client.disconnect();
  releaseMedia();
  draw();
}

function sendChat() {
  const text = ui.chatText.value;
  if (!client.chat(text)) {
    if (client.talking && text.trim()) notice("refused", "Your message is too long. Make it shorter.");
    draw();
    return;
  }
  addChat("own", "You", text);
  ui.chatText.value = "";
}

function remember() {
  ui.topics.value = parseTopics(ui.topics.value, MOST_TOPICS).join(", ");
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify({ name: ui.name.value, topics: ui.topics.value }));
  } catch {
    // Storage may be switched off; nothing depends on it.
  }
}

function recall() {
  try {
    const stored = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? "{}");
    ui.name.value = stored.name ?? "";
    ui.topics.value = stored.topics ?? "";
  } catch {
    // The same.
  }
}

// --- what the client tells ---------------------------------------------------

function onConnection({ detail }) {
  view.connecting = detail.phase === "connecting";
  view.retry = detail.phase === "retrying" ? detail : null;
  if (detail.phase === "open") onOpen(detail);
  if (detail.phase === "retrying") onRetrying(detail);
  if (detail.phase === "closed" && detail.kind !== "asked") onClosed(detail);
  draw();
}

function onOpen({ rejoining }) {
  ui.chatText.maxLength = client.limits.chatCharacters ?? 2000;
  view.rejoined = rejoining;
  notice("connection");
}

function onRetrying({ kind, rejoining }) {
  const after = rejoining ? " You will then look for a partner again." : "";
  notice("connection", `${RETRY_WORDS[kind] ?? RETRY_WORDS.unreachable} This page connects again by itself.${after}`);
  view.ending = "";
}

function onClosed({ kind }) {
  notice("connection", FINAL_WORDS[kind] ?? FINAL_WORDS.ended);
  view.ending = "";
  releaseMedia();
}

function onPaired({ detail: { partner } }) {
  view.media = "connecting";
  view.ending = "";
  view.rejoined = false;
  notice("connection");
  notice("refused");
  ui.chatLog.replaceChildren();
  const common = partner.topics.length ? ` You both chose: ${partner.topics.map(isolate).join(", ")}.` : "";
  addNote(`You are talking with ${partnerName(partner)}.${common}`);
  draw();
}

function onPartnerLeft({ detail: { partner, reason } }) {
  const words = LEAVE_WORDS[reason] ?? LEAVE_WORDS.left;
  view.ending = words(partnerName(partner));
  addNote(view.ending);
  draw();
}

function onStateChange({ detail: { state, previous } }) {
  const wasTalking = previous === "paired" || previous === "negotiating";
  if (wasTalking && state === "disconnected" && client.wantsPartner) {
    addNote("The connection to the server broke off; this conversation is over.");
  }
  draw();
}

function onRemoteStream({ detail: { stream } }) {
  if (ui.remote.srcObject !== stream) ui.remote.srcObject = stream;
  ui.remote.controls = false;
  notice("play");
  if (stream) ui.remote.play().catch(onPlayRefused);
  else view.media = "";
  draw();
}

function onPlayRefused(error) {
  if (error.name !== "NotAllowedError") return;
  ui.remote.controls = true;
  notice("play", "The browser holds your partner's sound back. Press play in the video.");
  draw();
}

function onMedia({ detail: { media } }) {
  view.media = media;
  draw();
}

function onChat({ detail: { text, username } }) {
  addChat("partner", username || "Your partner", text);
}

function onRefused({ detail: { code, ref, retryAfterSeconds } }) {
  const what = ref === "chat" ? "Your last message was not delivered." : "The server refused a request.";
  const why = (ref === "chat" && REFUSED_CHAT_WORDS[code]) || (REFUSED_WORDS[code] ?? `(${code})`);
  const wait = retryAfterSeconds ? ` Try again in ${seconds(Math.ceil(retryAfterSeconds))}.` : "";
  notice("refused", `${what} ${why}${wait}`);
  draw();
}

// --- diagnostics -------------------------------------------------------------

const ARROWS = { in: "←", out: "→", note: "·" };

function onLog({ detail: { direction, type, extra } }) {
  const line = document.createElement("li");
  const time = new Date().toTimeString().slice(0, 8);
  line.textContent = `${time} ${ARROWS[direction]} ${type}${extra ? ` (${extra})` : ""}`;
  append(ui.log, line, MOST_LOG_LINES);
}

async function drawDiagnostics() {
  const { pc } = client;
  const stats = await client.stats().catch(() => null);
  setText(element("diag-connection"), pc?.connectionState ?? "–");
  setText(element("diag-ice"), pc?.iceConnectionState ?? "–");
  setText(element("diag-signaling"), pc?.signalingState ?? "–");
  setText(element("diag-frames"), stats ? String(stats.framesDecoded) : "–");
  setText(element("diag-pair"), stats?.localCandidate
    ? `${stats.localCandidate} – ${stats.remoteCandidate} (${stats.transport})` : "–");
  setText(element("diag-rtt"), stats?.rttMilliseconds == null ? "–" : `${stats.rttMilliseconds} ms`);
}

// --- wiring ------------------------------------------------------------------

ui.setup.addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
ui.next.addEventListener("click", next);
ui.stop.addEventListener("click", stop);
ui.mute.addEventListener("click", () => {
  view.muted = !view.muted;
  applySwitches();
  draw();
});
ui.camera.addEventListener("click", () => {
  view.cameraOff = !view.cameraOff;
  applySwitches();
  draw();
});
ui.chatForm.addEventListener("submit", (event) => {
  event.preventDefault();
  sendChat();
});

client.addEventListener("connection", onConnection);
client.addEventListener("statechange", onStateChange);
client.addEventListener("paired", onPaired);
client.addEventListener("partnerleft", onPartnerLeft);
client.addEventListener("remotestream", onRemoteStream);
client.addEventListener("media", onMedia);
client.addEventListener("chat", onChat);
client.addEventListener("refused", onRefused);
client.addEventListener("log", onLog);
window.addEventListener("online", () => client.retryNow());

recall();
ui.diagnostics.open = location.pathname === "/test-client";
setInterval(drawDiagnostics, STATS_INTERVAL);
draw();
