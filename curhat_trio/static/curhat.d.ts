/**
 * Whether a client reconnects by itself after this close code [P-9.1, P-9.2].
 * @param {number} code  of the close frame; 1006: there was none
 * @returns {boolean} whether it does
 */
export function shouldRetry(code: number): boolean;
/**
 * Exponential backoff with jitter: between half and the whole of the doubled delay, in milliseconds.
 * @param {number} attempt  1 for the first retry
 * @param {number} [random]  in [0, 1)
 * @returns {number} milliseconds
 */
export function retryDelay(attempt: number, random?: number): number;
/**
 * Splits "a, b, b" into distinct topics, at most `most` of them, cut to `longest` characters.
 * @param {string} text  separated by commas
 * @param {number} [most]  how many topics
 * @param {number} [longest]  how many characters of each
 * @returns {string[]} the topics, without surrounding space; those that differ only in case are one
 */
export function parseTopics(text: string, most?: number, longest?: number): string[];
declare const Curhat_base: new () => CurhatEventTarget;
/**
 * One client of a server. `start` looks for a partner, `next` for another one, `leave` stops, `disconnect` closes the
 * connection. It reconnects and resumes the session by itself [P-9.1, P-13.3].
 *
 * It is an EventTarget; `CurhatEvents` has the `detail` of each event.
 */
export class Curhat extends Curhat_base {
    /**
     * Nothing is sent before `start`.
     * @param {Settings} settings
     * @throws {SyntaxError|TypeError} the address is not valid, or not allowed: a page of `https:` needs `wss:` [P-11.4]
     */
    constructor({ url, rtc }: Settings);
    /** The id that the server gave to the session; null: there is none yet. @type {string|null} */ sessionId: string | null;
    /** What the server accepts: `welcome.limits` of the protocol. @type {Record<string, number>} */ limits: Record<string, number>;
    /** The optional parts of the protocol that the server supports [P-3.1]. @type {string[]} */ features: string[];
    /** The state of the session. */
    get state(): State;
    /** The peer connection of the present call; the next call has another. @type {RTCPeerConnection|null} */
    get pc(): RTCPeerConnection | null;
    /** The present partner; null: there is none. */
    get partner(): Partner | null;
    /** The partner's camera and microphone; null: there is no call. @type {MediaStream|null} */
    get remoteStream(): MediaStream | null;
    /** The partner's screen; null: it is not shared. @type {MediaStream|null} */
    get remoteScreen(): MediaStream | null;
    /** Whether a partner is looked for, or there is one. */
    get wantsPartner(): boolean;
    /** The own leave or next, until the server has acknowledged it [P-4.6]. */
    get leaving(): "next" | "leave" | null;
    /** Whether a connection exists, is being made, or will be tried again by itself. */
    get active(): boolean;
    /**
     * Whether the server supports an optional part of the protocol [P-3.2]; true as long as that is not known.
     * @param {string} feature  such as "chat" or "next"
     */
    has(feature: string): boolean;
    /** Whether there is a partner. */
    get talking(): boolean;
    /** Whether the partner's microphone and camera are on, as far as the partner has announced it. */
    get partnerMedia(): MediaSwitches;
    /** Whether the own screen is shared with the partner. */
    get sharing(): boolean;
    /**
     * Sets what is sent, now and in the pairings to come. In a call a track replaces the one of its kind; what is new or
     * missing is negotiated. Stopping the tracks is left to the caller.
     * @param {MediaStream|null} stream  camera and microphone, or either; null: nothing is sent
     */
    setLocalStream(stream: MediaStream | null): void;
    /**
     * Overrides what the partner is shown of the own microphone and camera. Without this it follows from the local
     * stream: a kind is off if there is no track of it, or if that is disabled, muted or ended.
     * @param {{audio?: boolean|null, video?: boolean|null}} media  null, or left out: as the tracks are
     */
    setMedia({ audio, video }: {
        audio?: boolean | null;
        video?: boolean | null;
    }): void;
    /**
     * Shows this partner a second video beside the camera, with its sound if it has any, until `stopSharing`, the video
     * track's or the pairing's end. Stopping the tracks is left to the caller.
     * @param {MediaStream} stream  of `getDisplayMedia`
     * @returns {boolean} false: there is no call, or the stream has no video
     */
    shareScreen(stream: MediaStream): boolean;
    /** Ends what `shareScreen` began, if it still goes on. */
    stopSharing(): void;
    /**
     * Looks for a partner, connecting first where necessary.
     * @param {JoinOptions} [options]  without: as the last time
     * @throws {RangeError} `room` is empty or longer than 64 characters
     */
    start(options?: JoinOptions): void;
    /** Leaves the partner and looks for another one. */
    next(): void;
    /**
     * Leaves the partner or the waiting room and stays connected.
     * @param {string} [reason]  at most 256 characters are sent
     */
    leave(reason?: string): void;
    /** Leaves and closes the connection [P-9.4]; nothing is retried. */
    disconnect(): void;
    /** Connects now instead of after the current delay, unless the server asked for that delay [P-9.3]. */
    retryNow(): void;
    /**
     * Sends the partner a text.
     * @param {string} text  1 to 2000 characters (`limits.chatCharacters`), not only space
     * @returns {boolean} whether it was sent
     */
    chat(text: string): boolean;
    /**
     * Notifies the partner that a text is being written, or no longer. Only changes are sent.
     * @param {boolean} active  whether it is
     */
    typing(active: boolean): void;
    /**
     * Reports this partner, or the last one, if the server supports that.
     * @param {string} reason  a word
     * @param {string} [detail]  in the user's own words
     * @returns {boolean} whether it was sent
     */
    report(reason: string, detail?: string): boolean;
    /** Blocks this partner, or the last one, if the server supports that. @returns {boolean} whether it was sent */
    block(): boolean;
    /** Measures the present call. @returns {Promise<CallStats|null>} null: there is no call */
    stats(): Promise<CallStats | null>;
    #private;
}
/**
 * The state of the session, as the server sees it (spec/protocol.md, section 4); "disconnected" is the protocol's
 * *closed*.
 */
export type State = "disconnected" | "connected" | "waiting" | "paired" | "negotiating";
/**
 * Whether the partner's audio and video arrive. "interrupted": they did, and an ICE restart may bring them back.
 */
export type MediaState = "connecting" | "connected" | "interrupted" | "failed";
/**
 * How far the connection to the partner had come when it failed; "lost": it had been connected.
 */
export type FailedStage = "gathering" | "checking" | "dtls" | "lost";
/**
 * What a client is made with.
 */
export type Settings = {
    /**
     * `ws:` or `wss:` address of the server's `/ws`, without the name
     */
    url: string;
    /**
     * for every RTCPeerConnection; its ICE servers are used beside the server's
     */
    rtc?: RTCConfiguration | undefined;
};
/**
 * What kind of partner to look for, and as whom.
 */
export type JoinOptions = {
    /**
     * shown to partners; cut to 64 characters; without it: Anonymous
     */
    username?: string | undefined;
    /**
     * at most 5 of 32 characters are sent; somebody who shares one is preferred [P-3.7]
     */
    topics?: string[] | undefined;
    /**
     * pairs only with those who name the same [P-3.6]; 1 to 64 characters
     */
    room?: string | undefined;
};
/**
 * The partner of a pairing.
 */
export type Partner = {
    /**
     * the partner's session id
     */
    id: string;
    /**
     * written by a stranger: show it as text, never as markup [P-11.2]
     */
    username: string;
    /**
     * those that both have
     */
    topics: string[];
    /**
     * names this pairing
     */
    roomId: string;
    /**
     * this client's own role
     */
    role: "offerer" | "answerer";
    /**
     * whether this client is the polite side [P-5.8]
     */
    polite: boolean;
};
/**
 * Figures of a call, from `RTCPeerConnection.getStats()`.
 */
export type CallStats = {
    /**
     * whether a TURN server relays
     */
    path: "direct" | "relay" | "unknown";
    /**
     * host, srflx, prflx or relay
     */
    localCandidate: string;
    /**
     * the same, of the partner
     */
    remoteCandidate: string;
    /**
     * udp, tcp or tls
     */
    transport: string;
    /**
     * round trip time
     */
    rttMilliseconds: number | null;
    /**
     * kilobits per second since the last call of `stats`
     */
    sendKbps: number;
    /**
     * kilobits per second since the last call of `stats`
     */
    receiveKbps: number;
    /**
     * 0 to 1, of what the partner sent since the last call of `stats`
     */
    packetsLost: number | null;
    /**
     * since the call began
     */
    framesDecoded: number;
    /**
     * a summary of round trip time and loss
     */
    quality: "good" | "fair" | "poor" | "unknown";
};
/**
 * What has happened to the connection to the server.
 */
export type ConnectionDetail = {
    /**
     * "retrying": the client connects
     * again after `delaySeconds`. "resuming": likewise, and the session, with its partner, is still there.
     * "closed": only `start` connects again.
     */
    phase: "connecting" | "open" | "retrying" | "resuming" | "resumed" | "closed";
    /**
     * why the connection ended, by close code; "asked": by `disconnect`; "asleep": the page was
     * hidden for good or frozen, and the client comes back with it
     */
    kind?: string | undefined;
    /**
     * of the close frame; 1006: there was none
     */
    code?: number | undefined;
    /**
     * how many attempts have failed in a row
     */
    attempt?: number | undefined;
    /**
     * until the next attempt
     */
    delaySeconds?: number | undefined;
    /**
     * whether a partner is looked for as soon as the connection is back
     */
    rejoining?: boolean | undefined;
};
/**
 * The session's state has changed.
 */
export type StateChangeDetail = {
    /**
     * the state from now on
     */
    state: State;
    /**
     * the state before
     */
    previous: State;
};
/**
 * There is a partner.
 */
export type PairedDetail = {
    /**
     * who it is
     */
    partner: Partner;
};
/**
 * The pairing or the wait was ended by somebody else. Not dispatched after `leave` and `next`.
 */
export type PartnerLeftDetail = {
    /**
     * who it was; null: there was none yet
     */
    partner: Partner | null;
    /**
     * the protocol's reason, such as "left", "next" or "peer_lost"
     */
    reason: string;
};
/**
 * A stream of the partner's. Dispatched again when its tracks change.
 */
export type StreamDetail = {
    /**
     * null: there is none any more
     */
    stream: MediaStream | null;
};
/**
 * Audio and video connect, or fail to.
 */
export type MediaDetail = {
    /**
     * the state from now on
     */
    media: MediaState;
    /**
     * with "failed": how far it had come
     */
    stage?: FailedStage | undefined;
};
/**
 * A text from the partner.
 */
export type ChatDetail = {
    /**
     * written by a stranger: show it as text, never as markup [P-11.2]
     */
    text: string;
    /**
     * the partner's name
     */
    username: string;
};
/**
 * The partner has begun to write, or has stopped.
 */
export type TypingDetail = {
    /**
     * whether a text is being written
     */
    active: boolean;
};
/**
 * Whether somebody's microphone and camera are on [P-3.20].
 */
export type MediaSwitches = {
    /**
     * whether sound is sent
     */
    audio: boolean;
    /**
     * whether the camera's picture is sent
     */
    video: boolean;
};
/**
 * The partner's connection to the server is interrupted, or back [P-13.2].
 */
export type AwayDetail = {
    /**
     * whether it is interrupted
     */
    away: boolean;
};
/**
 * Something was not answered in time.
 */
export type UnansweredDetail = {
    /**
     * "offer": the partner's program did not answer; what was to change in
     * the call has not changed for the partner. The others: the server did not, and the client connects anew or gives up
     */
    type: "offer" | "join" | "leave" | "next";
};
/**
 * The server has refused a message (spec/protocol.md, section 8).
 */
export type RefusedDetail = {
    /**
     * the protocol's error code
     */
    code: string;
    /**
     * what was wrong, in English, for developers
     */
    message: string;
    /**
     * the type of the message that was refused
     */
    ref: string | undefined;
    /**
     * after which time to send again
     */
    retryAfterSeconds: number | undefined;
    /**
     * whether the client does so by itself
     */
    retrying: boolean;
};
/**
 * A message was sent or received, or something was noticed. For diagnostics; never what people write.
 */
export type LogDetail = {
    /**
     * "note": neither sent nor received
     */
    direction: "in" | "out" | "note";
    /**
     * the type of the message, or the text of the note
     */
    type: string;
    /**
     * a code, a reason, a role or a media state; or empty
     */
    extra: string;
};
/**
 * The events of a client, each with its `detail`.
 */
export type CurhatEvents = {
    /**
     * the session's state has changed
     */
    statechange: StateChangeDetail;
    /**
     * the connection to the server was made, lost or given up
     */
    connection: ConnectionDetail;
    /**
     * there is a partner
     */
    paired: PairedDetail;
    /**
     * somebody else has ended the pairing or the wait
     */
    partnerleft: PartnerLeftDetail;
    /**
     * the partner's camera and microphone
     */
    remotestream: StreamDetail;
    /**
     * the partner's screen
     */
    remotescreen: StreamDetail;
    /**
     * audio and video connect, or fail to
     */
    media: MediaDetail;
    /**
     * a text from the partner
     */
    chat: ChatDetail;
    /**
     * the partner has begun to write, or has stopped
     */
    typing: TypingDetail;
    /**
     * the partner has switched microphone or camera off or on; both count as on
     * when a pairing begins, and again when it ends
     */
    partnermedia: MediaSwitches;
    /**
     * the partner's connection to the server is interrupted, or back
     */
    away: AwayDetail;
    /**
     * something was not answered in time
     */
    unanswered: UnansweredDetail;
    /**
     * the server has refused a message
     */
    refused: RefusedDetail;
    /**
     * for diagnostics
     */
    log: LogDetail;
};
/**
 * An EventTarget with the events of `CurhatEvents`.
 */
export type CurhatEventTarget = {
    addEventListener<Name extends keyof CurhatEvents>(type: Name, listener: (event: CustomEvent<CurhatEvents[Name]>) => void, options?: boolean | AddEventListenerOptions): void;
    removeEventListener<Name extends keyof CurhatEvents>(type: Name, listener: (event: CustomEvent<CurhatEvents[Name]>) => void, options?: boolean | EventListenerOptions): void;
} & EventTarget;
export {};
