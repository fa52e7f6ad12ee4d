/** Somebody's program in TypeScript: what curhat.d.ts lets through, and what it finds. Checked, never run. */

import { Curhat, parseTopics, retryDelay, shouldRetry, type State } from "../../curhat_trio/static/curhat.js";

const client = new Curhat({ url: "wss://example.org/ws", rtc: { bundlePolicy: "max-bundle" } });

client.addEventListener("statechange", ({ detail }) => {
  const states: State[] = [detail.state, detail.previous];
  return states;
});
client.addEventListener("remotestream", ({ detail: { stream } }) => stream?.getTracks(), { once: true });
client.addEventListener("media", ({ detail }) => detail.stage === "dtls");
client.addEventListener("partnermedia", ({ detail: { audio, video } }) => audio && video);
client.setMedia({ audio: false });
client.addEventListener("partnerleft", ({ detail: { partner, reason } }) => `${partner?.username} ${reason}`);
client.addEventListener("something else", (event) => event.type);
client.start({ username: "Ani", topics: parseTopics("music, travel"), room: "r" });
client.start();
const sent: boolean = client.chat("halo") && client.report("rude") && client.block();
const figures: number | undefined = (await client.stats())?.sendKbps;
const delay: number = shouldRetry(4000) ? retryDelay(1) : 0;
export { delay, figures, sent };

// @ts-expect-error: the address is needed
new Curhat({});
// @ts-expect-error: this event has no stream
client.addEventListener("chat", ({ detail }) => detail.stream);
// @ts-expect-error: no such state
client.state === "talking";
// @ts-expect-error: decided by the library alone
client.state = "paired";
// @ts-expect-error: a list
client.start({ topics: "music" });
