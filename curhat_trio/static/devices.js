/**
 * Camera, microphone and speaker: which there are, how they are opened, and why they can't be. Knows nothing of
 * the page; a problem is a list of keys of words.js.
 */

/** @typedef {"video"|"audio"} Kind */
/** @typedef {{video: string, audio: string}} Choice  device ids; "" is whatever the system prefers */

const PICTURE = { width: { ideal: 640 }, height: { ideal: 480 } };

/** @param {Kind} kind @param {string} id */
function wanted(kind, id) {
  return { ...(kind === "video" ? PICTURE : {}), ...(id ? { deviceId: { exact: id } } : {}) };
}

/** Which devices to ask for, one after the other, after the first question failed. */
function fallbacks(errorName) {
  if (errorName === "NotAllowedError" || errorName === "SecurityError") return [];
  return [/** @type {Kind} */ ("audio"), /** @type {Kind} */ ("video")];
}

/**
 * Camera and microphone, or the one of them that can be had.
 * @param {Choice} choice  devices that are gone are replaced
 * @returns {Promise<{stream: MediaStream|null, problem: string[]}>}
 */
export async function openMedia(choice) {
  if (!navigator.mediaDevices?.getUserMedia) return { stream: null, problem: ["media.insecure", "media.without"] };
  try {
    const both = { audio: wanted("audio", choice.audio), video: wanted("video", choice.video) };
    return { stream: await navigator.mediaDevices.getUserMedia(both), problem: [] };
  } catch (error) {
    const chosen = choice.audio || choice.video;
    if (chosen && error.name === "OverconstrainedError") return openMedia({ audio: "", video: "" });
    return openSomeMedia(choice, error.name);
  }
}

async function openSomeMedia(choice, errorName) {
  for (const kind of fallbacks(errorName)) {
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ [kind]: wanted(kind, choice[kind]) });
      return { stream, problem: [missingWords(kind, errorName), "media.again"] };
    } catch {
      // The first failure is the one to explain.
    }
  }
  return { stream: null, problem: [failureWords(errorName), "media.again", "media.without"] };
}

/** @param {Kind} present @param {string} errorName */
function missingWords(present, errorName) {
  const missing = present === "audio" ? "Camera" : "Microphone";
  return `media.${errorName === "NotReadableError" ? "busy" : "no"}${missing}`;
}

function failureWords(errorName) {
  switch (errorName) {
    case "NotAllowedError":
    case "SecurityError": return "media.refused";
    case "NotFoundError": return "media.missing";
    case "NotReadableError": return "media.busy";
    default: return "media.other";
  }
}

/**
 * Just this device, and no other in its place.
 * @param {Kind} kind
 * @param {string} id
 * @returns {Promise<MediaStreamTrack>}
 */
export async function openDevice(kind, id) {
  return (await navigator.mediaDevices.getUserMedia({ [kind]: wanted(kind, id) })).getTracks()[0];
}

/** @typedef {"videoinput"|"audioinput"|"audiooutput"} DeviceKind */

/**
 * The devices that the browser names; before it has given leave to use any, it names none.
 * @returns {Promise<Record<DeviceKind, {id: string, label: string}[]>>}
 */
export async function listDevices() {
  const found = { videoinput: [], audioinput: [], audiooutput: [] };
  const devices = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  for (const { kind, deviceId, label } of devices) if (deviceId) found[kind]?.push({ id: deviceId, label });
  return found;
}

/** @param {MediaStream|null} stream */
export const hasVideo = (stream) => Boolean(stream?.getVideoTracks().length);
/** @param {MediaStream|null} stream */
export const hasAudio = (stream) => Boolean(stream?.getAudioTracks().length);

/** Switches the devices of a stream off for good. @param {MediaStream|null} stream */
export function stopTracks(stream) {
  for (const track of stream?.getTracks() ?? []) {
    track.onended = null;
    track.stop();
  }
}

/** How loud a microphone is, from 0 to 1; ask as often as you like, and close it. */
export class Loudness {
  #context = new AudioContext();
  #analyser = this.#context.createAnalyser();
  #samples = new Float32Array(this.#analyser.fftSize);

  /** @param {MediaStream} stream */
  constructor(stream) {
    this.#context.createMediaStreamSource(stream).connect(this.#analyser);
  }

  get now() {
    this.#analyser.getFloatTimeDomainData(this.#samples);
    return Math.min(1, Math.max(...this.#samples.map(Math.abs)));
  }

  close() {
    this.#context.close();
  }
}
