/** What the tests see of a page with the library and nothing else: its events, and all that it has opened. */

import { Curhat, parseTopics, retryDelay, shouldRetry } from "/curhat.js";

const EVENTS = [
  "statechange", "connection", "paired", "partnerleft", "remotestream", "remotescreen", "media", "chat", "typing",
  "partnermedia", "away", "refused", "unanswered", "log",
];

/** Things that have a beginning and must have an end. */
export const opened = { closing: 0, timers: new Set(), connections: new Set(), sockets: new Set(), listeners: 0 };
export const faults = [];

window.addEventListener("unhandledrejection", ({ reason }) => faults.push(`unhandled: ${reason}`));
window.addEventListener("error", ({ message }) => faults.push(`error: ${message}`));

function countTimers(set, clear, repeats) {
  const [realSet, realClear] = [window[set].bind(window), window[clear].bind(window)];
  window[set] = (action, milliseconds) => {
    const timer = realSet(() => {
      if (!repeats) opened.timers.delete(timer);
      action();
    }, milliseconds);
    opened.timers.add(timer);
    return timer;
  };
  window[clear] = (timer) => {
    opened.timers.delete(timer);
    realClear(timer);
  };
}
countTimers("setTimeout", "clearTimeout", false);
countTimers("setInterval", "clearInterval", true);

window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(configuration) {
    super(configuration);
    opened.connections.add(this);
  }

  close() {
    opened.connections.delete(this);
    super.close();
  }
};

window.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols);
    opened.sockets.add(this);
    opened.protocols = protocols;
    this.addEventListener("close", () => opened.sockets.delete(this));
  }

  close(code) {
    opened.sockets.delete(this);
    opened.closing += 1;
    this.addEventListener("close", () => { opened.closing -= 1; });
    super.close(code);
  }
};

const listen = window.addEventListener.bind(window);
window.addEventListener = (type, listener, options) => {
  if (type === "online") {
    opened.listeners += 1;
    options?.signal?.addEventListener("abort", () => { opened.listeners -= 1; });
  }
  listen(type, listener, options);
};

/** What can be passed to Python: streams by the kinds of their tracks. */
function plain(detail) {
  return Object.fromEntries(Object.entries(detail).map(([name, value]) => [
    name, value instanceof MediaStream ? value.getTracks().map(({ kind }) => kind).sort() : value,
  ]));
}

/** A client whose events are kept. */
export function openClient(settings) {
  const client = new Curhat(settings);
  const events = [];
  for (const name of EVENTS) {
    client.addEventListener(name, ({ detail }) => events.push({ name, ...plain(detail) }));
  }
  return { client, events };
}

/** Pictures and sound of our own making. Their tracks are stopped with `stop`. */
export function makeStream({ audio = true, video = true, colour = "red" } = {}) {
  const stream = new MediaStream();
  const ends = [];
  if (video) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [64, 48];
    const pen = canvas.getContext("2d");
    let number = 0;
    const draw = () => {
      pen.fillStyle = colour;
      pen.fillRect(0, 0, 64, 48);
      pen.fillStyle = "white";
      pen.fillRect((number += 3) % 64, 0, 8, 48);
    };
    draw();
    const worker = new Worker(URL.createObjectURL(new Blob(["setInterval(() => postMessage(0), 50)"])));
    worker.onmessage = draw;
    ends.push(() => worker.terminate());
    stream.addTrack(canvas.captureStream(20).getVideoTracks()[0]);
  }
  if (audio) {
    const context = new AudioContext();
    stream.addTrack(context.createMediaStreamDestination().stream.getAudioTracks()[0]);
    ends.push(() => context.close());
  }
  return { stream, stop: () => { ends.forEach((end) => end()); stream.getTracks().forEach((track) => track.stop()); } };
}

Object.assign(window, { openClient, makeStream, opened, faults, parseTopics, retryDelay, shouldRetry, Curhat });
