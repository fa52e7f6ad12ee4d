// A client's program with generated types: compiled by .ci/contract, never run. After each @ts-expect-error stands a
// mistake that the compiler has to find; if it does not, that is an error.
import type { ClientMessage } from "./client";
import type { ServerMessage } from "./server";

function unreachable(message: never): never {
    throw new Error(`not a message of curhat.v1: ${JSON.stringify(message)}`);
}

/** What a client reads of every message. */
export function read(message: ServerMessage): unknown {
    const seq: number = message.seq;
    switch (message.type) {
        case "welcome": {
            const features: string[] = message.features;
            const bytes: number = message.limits.messageBytes;
            return [seq, features, bytes, message.sessionId, message.resumeToken?.length];
        }
        case "ready":
            return message.roomId;
        case "join": {
            const servers: RTCIceServer[] = message.iceServers.map(({ urls, username, credential }) => ({
                urls,
                username: username ?? undefined,
                credential: credential ?? undefined,
            }));
            const configuration: RTCConfiguration = { iceServers: servers, iceTransportPolicy: message.iceTransportPolicy };
            return [configuration, message.role === "offerer", message.polite, message.from];
        }
        case "ice":
            return message.iceServers.flatMap((server) => server.urls);
        case "offer":
        case "answer": {
            const description: RTCSessionDescriptionInit = message.payload;
            return [description, message.from, message.roomId];
        }
        case "candidate": {
            const candidate: RTCIceCandidateInit = message.payload;
            return [candidate, message.to];
        }
        case "chat":
            return message.text;
        case "typing":
            return message.active;
        case "media":
            return [message.audio, message.video];
        case "peer":
            return message.state === "away";
        case "leave": {
            const reason: string = message.reason; // open: a later version may add reasons
            return reason === "a_reason_of_a_later_version";
        }
        case "error": {
            const ref: string | null = message.ref;
            return [ref, message.code === "a_code_of_a_later_version", message.retryAfterSeconds ?? 0];
        }
        case "resumed":
            return [message.resumeToken, message.heard];
        case "pong":
            return message.heard;
        case "goaway":
            return message.retryAfterSeconds;
        default:
            return unreachable(message);
    }
}

/** A message of every type, with and without what is optional. */
export const written: ClientMessage[] = [
    { type: "join" },
    { type: "join", username: "Ani", topics: ["music"], room: null, id: "1" },
    { type: "leave" },
    { type: "next", reason: "no common language" },
    { type: "offer", payload: { type: "offer", sdp: "v=0" } },
    { type: "answer", payload: { type: "answer", sdp: "v=0" } },
    { type: "candidate", payload: { candidate: "", sdpMid: "0", sdpMLineIndex: 0 } },
    { type: "candidate", payload: null },
    { type: "candidate", payload: {} },
    { type: "chat", text: "hi!" },
    { type: "typing", active: true },
    { type: "media", audio: true, video: false },
    { type: "status", media: "failed", stage: "checking" },
    { type: "ice", id: null },
    { type: "resume", token: "zWc3Xo0bq1M", lastSeq: 17 },
    { type: "ping", data: "1" },
];

/** What a browser gathers can be sent as it is. */
export function trickle(event: RTCPeerConnectionIceEvent): ClientMessage {
    return { type: "candidate", payload: event.candidate?.toJSON() ?? null };
}

// ---------------------------------------------------------------- mistakes

export const mistakes: ClientMessage[] = [
    // @ts-expect-error: a field that no message has
    { type: "join", usrname: "Ani" },
    // @ts-expect-error: a field of another message
    { type: "leave", text: "hi!" },
    // @ts-expect-error: a required field is missing
    { type: "chat" },
    // @ts-expect-error: a value of the wrong type
    { type: "typing", active: "yes" },
    // @ts-expect-error: an unknown type
    { type: "wave" },
    // @ts-expect-error: an offer with an answer's description
    { type: "offer", payload: { type: "answer", sdp: "v=0" } },
    // @ts-expect-error: a value that the server does not know
    { type: "status", media: "lost" },
    // @ts-expect-error: only the server sends it
    { type: "welcome", sessionId: "c-ani" },
];

export function misread(message: ServerMessage): unknown {
    switch (message.type) {
        case "chat":
            // @ts-expect-error: a field of another message
            return message.payload;
        case "join":
            // @ts-expect-error: a role that there is not
            return message.role === "observer";
        default:
            // @ts-expect-error: the other messages are not handled
            return unreachable(message);
    }
}
