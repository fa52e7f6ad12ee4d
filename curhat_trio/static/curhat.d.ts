/**
 * Whether a client comes back by itself after this close code [P-9.1, P-9.2].
 * @param {number} code
 */
export function shouldRetry(code: number): boolean;
/**
 * Exponential backoff with jitter: between half and the whole of the doubled delay, in milliseconds.
 * @param {number} attempt  1 for the first retry
 * @param {number} [random] in [0, 1)
 */
export function retryDelay(attempt: number, random?: number): number;
/**
 * Splits "a, b, b" into distinct topics, at most `most` of them, cut to `longest` characters.
 * @param {string} text
 * @param {number} [most]
 * @param {number} [longest]
 */
export function parseTopics(text: string, most?: number, longest?: number): string[];
declare const Curhat_base: new () => CurhatEventTarget;
/** A person's side of the service: `start`, `next`, `leave`, `disconnect`. */
export class Curhat extends Curhat_base {
    /**
     * @param {Settings} settings
     * @throws {SyntaxError|TypeError} an address that is none, or is not allowed
     */
    constructor({ url, rtc }: Settings);
    /** @type {string|null} */ sessionId: string | null;
    /** What the server takes; see the protocol's `welcome`. @type {Record<string, number>} */ limits: Record<string, number>;
    /** The optional parts that the server has. @type {string[]} */ features: string[];
    get state(): State;
    /** @type {RTCPeerConnection|null} */
    get pc(): RTCPeerConnection | null;
    get partner(): Partner | null;
    /** @type {MediaStream|null} */
    get remoteStream(): MediaStream | null;
    /** @type {MediaStream|null} */
    get remoteScreen(): MediaStream | null;
    /** Asked for a partner and not been given up since. */
    get wantsPartner(): boolean;
    /** Our own leave or next, until the server has acknowledged it. */
    get leaving(): "next" | "leave" | null;
    /** A connection exists, is being made, or will be tried again by itself. */
    get active(): boolean;
    /** Whether the server has an optional part of the protocol, as far as is known. @param {string} feature */
    has(feature: string): boolean;
    get talking(): boolean;
    /** Whether the partner is shown our screen. */
    get sharing(): boolean;
    /**
     * What is sent, now and in the pairings to come. In a call a track takes the place of one of its kind; what is new
     * or missing is negotiated. The tracks remain the caller's to stop.
     * @param {MediaStream|null} stream
     */
    setLocalStream(stream: MediaStream | null): void;
    /**
     * Shows this partner a second video beside the camera, with its sound if it has any, until `stopSharing`, the video
     * track's or the pairing's end. The tracks remain the caller's to stop.
     * @param {MediaStream} stream
     * @returns {boolean} false: there is nobody to show it to, or it has no video
     */
    shareScreen(stream: MediaStream): boolean;
    stopSharing(): void;
    /**
     * Looks for a partner, connecting first where necessary.
     * @param {JoinOptions} [options]  without: as the last time
     * @throws {RangeError} a `room` that no server takes
     */
    start(options?: JoinOptions): void;
    /** Leaves the partner and looks for another one. */
    next(): void;
    /** Leaves the partner or the waiting room and stays connected. @param {string} [reason] */
    leave(reason?: string): void;
    /** Leaves and closes; nothing is retried. */
    disconnect(): void;
    /** Does not wait for the end of the current retry delay, unless the server asked for it. */
    retryNow(): void;
    /** @param {string} text @returns {boolean} whether it was sent */
    chat(text: string): boolean;
    /** Tells the partner that a text is being written, or no longer. @param {boolean} active */
    typing(active: boolean): void;
    /**
     * Reports this partner, or the last one.
     * @param {string} reason
     * @param {string} [detail]
     * @returns {boolean} whether it was sent
     */
    report(reason: string, detail?: string): boolean;
    /** Never again this partner, or the last one. @returns {boolean} whether it was sent */
    block(): boolean;
    /** @returns {Promise<CallStats|null>} null: there is no call */
    stats(): Promise<CallStats | null>;
    #private;
}
/**
 * As the server sees us; "disconnected" is the protocol's *closed*.
 */
export type State = "disconnected" | "connected" | "waiting" | "paired" | "negotiating";
export type Link = "none" | "connecting" | "resuming" | "open";
export type MediaState = "connecting" | "connected" | "interrupted" | "failed";
export type FailedStage = "gathering" | "checking" | "dtls" | "lost";
export type Message = {
    type: string;
    [field: string]: any;
};
export type Settings = {
    /**
     * ws: or wss: address of the server's `/ws`, without the name
     */
    url: string;
    /**
     * for every RTCPeerConnection; its ICE servers are used beside the server's
     */
    rtc?: RTCConfiguration | undefined;
};
export type JoinOptions = {
    username?: string | undefined;
    topics?: string[] | undefined;
    /**
     * pairs only with those who name the same; 1 to 64 characters
     */
    room?: string | undefined;
};
export type Partner = {
    id: string;
    /**
     * a stranger's words: text, never markup
     */
    username: string;
    /**
     * those that both have
     */
    topics: string[];
    roomId: string;
    /**
     * ours
     */
    role: "offerer" | "answerer";
    /**
     * whether we are
     */
    polite: boolean;
};
export type CallStats = {
    path: "direct" | "relay" | "unknown";
    /**
     * host, srflx, prflx or relay
     */
    localCandidate: string;
    remoteCandidate: string;
    /**
     * udp, tcp or tls
     */
    transport: string;
    rttMilliseconds: number | null;
    /**
     * since the last call of `stats`, as are the two that follow
     */
    sendKbps: number;
    receiveKbps: number;
    /**
     * 0 to 1, of what the partner sent
     */
    packetsLost: number | null;
    /**
     * since the call began
     */
    framesDecoded: number;
    quality: "good" | "fair" | "poor" | "unknown";
};
/**
 * "retrying": comes back by itself after `delaySeconds`. "resuming": likewise, and the session, with the partner,
 * is still there. "closed": only the person can start again.
 */
export type ConnectionDetail = {
    phase: "connecting" | "open" | "retrying" | "resuming" | "resumed" | "closed";
    /**
     * why it ended, by close code; "asked": by `disconnect`
     */
    kind?: string | undefined;
    /**
     * of the close frame
     */
    code?: number | undefined;
    attempt?: number | undefined;
    delaySeconds?: number | undefined;
    /**
     * whether a partner is looked for as soon as the connection is back
     */
    rejoining?: boolean | undefined;
};
/**
 * The `detail` of each event.
 */
export type CurhatEvents = {
    statechange: {
        state: State;
        previous: State;
    };
    connection: ConnectionDetail;
    paired: {
        partner: Partner;
    };
    /**
     * not told after one's own leave or next
     */
    partnerleft: {
        partner: Partner | null;
        reason: string;
    };
    /**
     * camera and microphone; told again when its tracks change
     */
    remotestream: {
        stream: MediaStream | null;
    };
    remotescreen: {
        stream: MediaStream | null;
    };
    media: {
        media: MediaState;
        stage?: FailedStage;
    };
    /**
     * from the partner
     */
    chat: {
        text: string;
        username: string;
    };
    typing: {
        active: boolean;
    };
    /**
     * the partner's connection to the server is interrupted, or back
     */
    away: {
        away: boolean;
    };
    refused: {
        code: string;
        message: string;
        ref: string | undefined;
        retryAfterSeconds: number | undefined;
    };
    /**
     * never holds what people say
     */
    log: {
        direction: "in" | "out" | "note";
        type: string;
        extra: string;
    };
};
export type CurhatEventTarget = {
    addEventListener<Name extends keyof CurhatEvents>(type: Name, listener: (event: CustomEvent<CurhatEvents[Name]>) => void, options?: boolean | AddEventListenerOptions): void;
    removeEventListener<Name extends keyof CurhatEvents>(type: Name, listener: (event: CustomEvent<CurhatEvents[Name]>) => void, options?: boolean | EventListenerOptions): void;
} & EventTarget;
export type TimerName = "retry" | "stable" | "window" | "again" | "ice";
/**
 * what each message does
 */
export type Row = Record<string, (message: Message) => void>;
export {};
