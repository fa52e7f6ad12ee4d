--------------------------- MODULE TraceSignaling ---------------------------
(* Is what a server wrote with --trace a behaviour of Signaling?                                                   *)
(*                                                                                                                 *)
(* How to read this: after Signaling.tla, which begins with how to read TLA+, and with ../trace.md at hand for the *)
(* lines. Here a line is a record, `line.session` its field; [line] @@ [other] has the fields of both.             *)
(* traces.py writes the module TraceData: Traces[k] is trace number k, line by line. A room s1/2 is <<"s1", 2>>,   *)
(* the second wait of s1, as in Signaling.                                                                         *)
(*                                                                                                                 *)
(* Every action is one line: Fits the line? Then these are the variables afterwards. So each trace is one chain of *)
(* states; it is accepted if the chain comes to its line `end`, and then its number is printed.                    *)
(*                                                                                                                 *)
(* What a session does is React, Signaling's own, and every step leads where its row of the session table says.    *)
(* What Signaling leaves out is added here, in `extra` of each client: the legacy profile, close codes and reasons, *)
(* what is counted, candidates, resuming. To React a candidate that passes is a chat, as `typing` and `media` are, *)
(* and every way to close is ConnectionClosed; the Mistakes are none. What Signaling leaves open, a server that    *)
(* runs to completion does not: inboxes are taken from in the order of one queue, before anything else happens.    *)
(*                                                                                                                 *)
(* Left out: which of several fitting tickets the matchmaker prefers, and lines about a bug.                       *)
(* Types of messages, codes and limits are written here a second time on purpose: the model is independent of the  *)
(* code, but for the session table.                                                                                *)
EXTENDS Signaling, TLC, TraceData

VARIABLES
    tr,        \* which trace this is
    next,      \* which of its lines is read next
    extra,     \* of each client: what Signaling does not know of its session
    attachedCount, \* how many sessions have been attached so far: s1, s2, ... in this order
    expected,  \* the lines that have to follow, but for their numbers: what became of events, and of who is closed
    due,       \* what has to come after those: <<"open", client>>: it has just come; <<"drain", client>>: too late;
               \* <<"message", client, event>>: just received; <<"answer", client>>: to its `resume` ("refusal": only no);
               \* <<"resumed", client>>: another session goes on over the connection of this one; or None
    order,     \* the queue: for whom each event in the inboxes is, in the order in which they are taken
    lastStepped, \* whose step the last line was, or None
    requesters, \* who has made each request in `requested`, in the order in which they are served
    pairs,     \* tickets that left the pool together, and whose sessions are not notified yet
    draining   \* the server is going away

Range(list) == {list[k] : k \in 1..Len(list)}
RECURSIVE Concat(_)
Concat(lists) == IF lists = <<>> THEN <<>> ELSE Head(lists) \o Concat(Tail(lists))

(* A field that has its usual value is left out. *)
Unusual(record, usual) == [f \in {f \in DOMAIN record : record[f] # usual[f]} |-> record[f]]
UnlessEmpty(list, record) == IF list = <<>> THEN [f \in {} |-> None] ELSE record

NewSession == [profile |-> None, silent |-> FALSE, last |-> None, invalid |-> 0, rate_limited |-> 0,
             received |-> 0, sent |-> 0, before |-> 0, code |-> None, slot |-> FALSE, resumed |-> FALSE,
             own |-> None, mine |-> {}, theirs |-> {}, peer |-> {}, refused |-> <<>>, held |-> <<>>,
             hold |-> None, signals |-> <<>>, answers_only |-> FALSE, failing |-> FALSE]
(* silent: nothing was received yet. last: the last partner. received, sent: how many messages from the client (but *)
(* for `resume`), and to it; before: sent when its connection was lost. slot: it has one for sure. resumed: it has *)
(* gone on over another connection. own, peer: ICE generations of the last finished exchange;                      *)
(* mine, theirs: of the pending offer; refused: void ones. held: candidates whose description has not come.        *)
(* hold, signals, answers_only: see Release. failing: the client reported failed media, and not flowing since.*)

Line == Traces[tr][next]
Settings == [f \in {"format", "widens", "resumes", "relay_only"} |-> Traces[tr][1][f]]

---------------------------------------------------------------------------
(* What a step does: the session, its `extra`, and the actions, as lines have them *)

StepTo(s, x) == [s |-> s, x |-> x, sends |-> <<>>, forwards |-> <<>>, requests |-> <<>>, counts |-> <<>>, closes |-> <<>>,
                due |-> None]
Sends(s, x, sends) == [StepTo(s, x) EXCEPT !.sends = sends]
Error(code, ref, fatal) == [type |-> "error", code |-> code, ref |-> ref, fatal |-> fatal]
WrongState(s, x, e) == Sends(s, x, <<Error("wrong_state", e.type, FALSE)>>)

LegacyVocabulary == {"ready", "join", "offer", "answer", "candidate", "leave", "error"}
(* A legacy client is sent neither messages that it does not know nor its own `leave`. *)
IsFor(c, x, m) == x.profile = "v1" \/ (m.type \in LegacyVocabulary /\ ~(m.type = "leave" /\ m.from = c))
ForProfile(c, x, sends) == SelectSeq(sends, LAMBDA m : IsFor(c, x, m))

(* Why a pairing or a wait ends *)
Reason(s, e) ==
    CASE e.type = "leave" -> "left"
      [] e.type = "next" -> "next"
      [] e.type = "PeerLeft" -> e.reason
      [] e = [type |-> "DeadlinePassed"] -> IF s.st = "paired" THEN "negotiation_timeout" ELSE "media_failed"
      [] e.type = "Matched" -> IF s.st = "closed" THEN "peer_lost" ELSE "left"
      [] e.type = "ClosingForced" -> IF e.code = 4000 THEN "server_shutdown" ELSE "peer_lost"
      [] OTHER -> "peer_lost"

(* Why a message is refused *)
RefusalCode(s, e) ==
    IF e.type = "offer" /\ Live(s) /\ s.view = "stable" THEN "not_your_turn" ELSE "wrong_state"

(* What Signaling sends to the client and forwards to a partner, as lines have it *)
SentLine(s, e, m) ==
    CASE m.t = "ready" -> [type |-> "ready", room |-> m.room]
      [] m.t = "join" -> [type |-> "join", room |-> m.room, from |-> e.partner, polite |-> ~e.offerer,
                          role |-> IF e.offerer THEN "offerer" ELSE "answerer", topics |-> e.topics]
      [] m.t = "leave" -> [type |-> "leave", room |-> m.room, from |-> m.from, reason |-> Reason(s, e)]
      [] m.t = "relayed" -> [type |-> e.kind, room |-> m.room, from |-> m.from]
      [] m.t = "error" -> Error(RefusalCode(s, e), m.ref, FALSE)
      [] m.t = "peer" -> [type |-> "peer", room |-> m.room, from |-> m.from, state |-> m.state]
Ice(e) == [f \in DOMAIN e \cap {"ice", "relay"} |-> e[f]]   \* what a line has of a description or a candidate
ForwardLine(s, e, forward) ==
    [to |-> forward.to,
     event |-> CASE forward.event.t = "PeerLeft" -> [type |-> "PeerLeft", room |-> forward.event.room, reason |-> Reason(s, e)]
                 [] forward.event.t = "PeerSent" -> [type |-> "PeerSent", room |-> forward.event.room, kind |-> e.type] @@ Ice(e)
                 [] forward.event.t = "PeerPresence" ->
                      [type |-> "PeerPresence", room |-> forward.event.room, state |-> forward.event.state]]
RequestLine(x, request) ==
    IF request.t # "Enter" THEN [type |-> request.t, room |-> request.id]
    ELSE [type |-> "Enter", room |-> request.id, profile |-> x.profile, wish |-> request.wish]
         @@ (IF x.last = None THEN [f \in {} |-> None] ELSE [avoid |-> x.last])

(* As Signaling names events *)
AsChat == {"candidate", "typing", "media"}
AsEvent(s, e) ==
    CASE e.type = "join" -> [t |-> "join", wish |-> e.wish]
      [] e.type \in AsChat -> [t |-> "chat"]
      [] e.type = "Matched" -> Matched(e.ticket, e.room, e.partner, e.offerer)
      [] e.type = "PeerSent" -> PeerSent(e.room, s.partner, IF e.kind \in AsChat THEN "chat" ELSE e.kind)
      [] e.type = "PeerLeft" -> PeerLeft(e.room)
      [] e.type = "PeerPresence" -> PeerPresence(e.room, e.state)
      [] OTHER -> [t |-> e.type]

(* What Signaling does, as lines have it. Whoever leaves a pairing alive remembers the partner; whoever gets one   *)
(* begins anew.                                                                                                    *)
AsLines(c, s, x, e, step) ==
    LET parts == Live(s) /\ ~Live(step.s) /\ step.s.st # "closed"
        meets == ~Live(s) /\ Live(step.s)
        fresh == [x EXCEPT !.own = None, !.mine = {}, !.theirs = {}, !.peer = {}, !.refused = <<>>, !.held = <<>>,
                           !.hold = IF x.profile = "legacy" /\ step.s.polite /\ ~x.answers_only THEN "first" ELSE None,
                           !.signals = <<>>, !.failing = FALSE]
        x2 == IF meets THEN fresh ELSE IF parts THEN [x EXCEPT !.last = s.partner] ELSE x
    IN [StepTo(step.s, x2) EXCEPT
            !.sends = ForProfile(c, x, [k \in 1..Len(step.sends) |-> SentLine(s, e, step.sends[k])]),
            !.forwards = [k \in 1..Len(step.forwards) |-> ForwardLine(s, e, step.forwards[k])],
            !.requests = [k \in 1..Len(step.requests) |-> RequestLine(x2, step.requests[k])]]
ByModel(c, s, x, e) == AsLines(c, s, x, e, React(c, s, AsEvent(s, e), <<c, joins[c] + 1>>, TRUE))

(* The end, for whatever reason. At a shutdown the client is sent a message before. *)
End(c, s, x, e) ==
    LET done == AsLines(c, s, x, e, React(c, s, [t |-> "ConnectionClosed"], None, TRUE))
        notices == (IF Live(s) THEN <<[type |-> "leave", room |-> s.room, from |-> s.partner,
                                   reason |-> "server_shutdown"]>> ELSE <<>>)
               \o <<[type |-> "goaway", reason |-> "server_shutdown"]>>
        code == IF "code" \in DOMAIN e THEN e.code ELSE None
    IN IF s.st = "closed" THEN StepTo(s, x)
       ELSE [done EXCEPT !.sends = IF code = 4000 THEN ForProfile(c, x, notices) ELSE <<>>,
                         !.x.code = code, !.closes = <<code>>]
Forced(code) == [type |-> "ClosingForced", code |-> code]

(* An invalid or a rate-limited message is answered with an error; too many of them close the session.             *)
SendError(c, s, x, error, code) ==
    IF ~error.fatal THEN Sends(s, x, <<error>>)
    ELSE LET done == End(c, s, x, Forced(code)) IN [done EXCEPT !.sends = <<error>> \o @]
RefOf(e) == IF "ref" \in DOMAIN e THEN e.ref ELSE None
ReceiveInvalid(c, s, x, e) ==
    LET count == x.invalid + 1
    IN SendError(c, s, [x EXCEPT !.invalid = count], Error(e.code, RefOf(e), count >= 20), 4501)
ReceiveRateLimited(c, s, x, e) ==
    LET count == x.rate_limited + 1
    IN SendError(c, s, [x EXCEPT !.rate_limited = count], Error("rate_limited", RefOf(e), count >= 100), 4003)

---------------------------------------------------------------------------
(* signaling.py: what belongs to which ICE generation. `ice`: fragments of a description, or the candidate's or none *)

IsOf(ice, generation) == ice = <<>> \/ generation = {} \/ ice[1] \in generation
Void(x, generation, ice) ==   \* remember those of a void offer, unless an exchange that stands uses them too
    LET new == SelectSeq(ice, LAMBDA u : u \in generation /\ u \notin x.peer /\ u \notin Range(x.refused))
        all == x.refused \o new
    IN [x EXCEPT !.refused = SubSeq(all, IF Len(all) > 8 THEN Len(all) - 7 ELSE 1, Len(all))]
Stands(x, ice) == [x EXCEPT !.refused = SelectSeq(@, LAMBDA u : u \notin Range(ice))]
RECURSIVE AsList(_)
AsList(set) == IF set = {} THEN <<>> ELSE LET u == CHOOSE u \in set : TRUE IN <<u>> \o AsList(set \ {u})

DescriptionFromClient(c, s, x, e) ==   \* after it go the held candidates that are its own; the others are dropped
    LET done == ByModel(c, s, x, e)
        passes == done.forwards # <<>>
        mine == Range(e.ice)
        followers == SelectSeq(x.held, LAMBDA held : IsOf(held.ice, mine))
        follow(k) == [to |-> s.partner,
                      event |-> [type |-> "PeerSent", room |-> s.room, kind |-> "candidate"] @@ followers[k]]
        cross == e.type = "offer" /\ s.view = "remote"
        x2 == IF cross THEN Void(x, x.theirs, AsList(x.theirs)) ELSE x
        x3 == IF e.type = "offer" THEN [x2 EXCEPT !.mine = mine, !.held = <<>>]
              ELSE [x2 EXCEPT !.own = mine, !.peer = x.theirs, !.held = <<>>]
    IN CASE passes -> [done EXCEPT !.x = x3, !.forwards = @ \o [k \in 1..Len(followers) |-> follow(k)]]
         [] ~passes /\ cross -> StepTo(s, x)   \* the polite one's: dropped in silence
         [] OTHER -> done

SignalFromPartner(c, s, x, e) ==   \* a signal of the partner's is judged, and passed to the client if it stands
    LET done == ByModel(c, s, x, e)
        passes == done.sends # <<>>
    IN CASE e.kind = "offer" /\ passes -> [done EXCEPT !.x = [Stands(x, e.ice) EXCEPT !.theirs = Range(e.ice)]]
         [] e.kind = "offer" /\ ~passes -> [done EXCEPT !.x = Void(x, Range(e.ice), e.ice)]
         [] e.kind = "answer" /\ passes ->
              [done EXCEPT !.x = [Stands(x, e.ice) EXCEPT !.own = x.mine, !.peer = Range(e.ice)]]
         [] e.kind = "candidate" /\ Range(e.ice) \cap Range(x.refused) # {} -> StepTo(s, x)
         [] OTHER -> done

(* A legacy answerer may be about to offer all the same, so the partner's signals are held: a "first" hold, or a   *)
(* "long" one once it has offered. If the first ends with the clock, the client only answers: answers_only.        *)
RECURSIVE SignalsFromPartner(_, _, _, _)
SignalsFromPartner(c, s, x, signals) ==
    IF signals = <<>> THEN StepTo(s, x)
    ELSE LET one == SignalFromPartner(c, s, x, Head(signals))
             rest == SignalsFromPartner(c, one.s, one.x, Tail(signals))
         IN [rest EXCEPT !.sends = one.sends \o @]
Release(c, s, x) == SignalsFromPartner(c, s, [x EXCEPT !.hold = None, !.signals = <<>>], x.signals)
Holding(s, x) == s.st = "paired" /\ x.hold # None

Offers(s, x) ==   \* as answerer, before anything was answered
    IF x.profile # "legacy" \/ ~s.polite \/ s.described THEN x
    ELSE [x EXCEPT !.answers_only = FALSE, !.hold = IF Holding(s, x) THEN "long" ELSE @]

NotHeld == {"chat", "typing", "media"}
FromPartner(c, s, x, e) ==
    LET keep == [x EXCEPT !.signals = Append(@, e)] IN
    CASE ~Live(s) \/ e.room # s.room -> StepTo(s, x)
      [] Live(s) /\ e.room = s.room /\ Holding(s, x) /\ e.kind \notin NotHeld ->
            IF Len(keep.signals) < 64 THEN StepTo(s, keep) ELSE Release(c, s, keep)
      [] OTHER -> SignalFromPartner(c, s, x, e)

CandidateFromClient(c, s, x, e) ==
    LET described == (x.own # None /\ IsOf(e.ice, x.own)) \/ (s.view = "local" /\ IsOf(e.ice, x.mine))
        passed == ByModel(c, s, x, e)
        held == StepTo(s, [x EXCEPT !.held = Append(@, Ice(e))])
        withheld == Settings.relay_only /\ "relay" \notin DOMAIN e
        done == CASE withheld -> [StepTo(s, x) EXCEPT !.counts = <<"candidate_withheld">>]
                  [] ~withheld /\ described -> passed
                  [] ~withheld /\ ~described /\ Len(x.held) < 64 -> held
                  [] OTHER -> WrongState(s, x, e)
        released == Release(c, s, done.x)
    IN IF Holding(s, x)
       THEN [released EXCEPT !.sends = done.sends \o @, !.forwards = done.forwards, !.counts = done.counts]
       ELSE done

ChatFromClientOrRefused(c, s, x, e) ==
    IF extra[s.partner].profile = "legacy" THEN Sends(s, x, <<Error("unsupported", "chat", FALSE)>>)
    ELSE ByModel(c, s, x, e)

CountStatus(s, x, e) ==
    LET detail == IF e.media = "connected" THEN "path" ELSE "stage"
        name == "media_" \o e.media \o (IF detail \in DOMAIN e THEN "_" \o e[detail] ELSE "")
    IN [StepTo(s, [x EXCEPT !.failing = e.media = "failed"]) EXCEPT !.counts = <<name>>]

PassDeadline(c, s, x, e) ==   \* a deadline of the state's own
    CASE s.st = "connected" -> End(c, s, x, Forced(4502))
      [] Holding(s, x) -> Release(c, s, [x EXCEPT !.answers_only = @ \/ x.hold = "first"])
      [] Live(s) /\ ~Holding(s, x) -> AsLines(c, s, x, e, EndPairing(s))

---------------------------------------------------------------------------
(* Connections that are lost, and sessions that are resumed *)

CanResume(x) == Settings.resumes /\ x.profile = "v1"
LoseConnection(c, s, x, e) ==   \* with which code it was closed, if there was anybody to tell, is told only of who ends
    LET code == IF "closes" \in DOMAIN Line /\ Line.closes = 4002 THEN 4002 ELSE None
    IN IF ~CanResume(x) \/ (s.st = "connected" /\ x.silent) THEN End(c, s, x, e @@ [code |-> code])
       ELSE ByModel(c, s, [x EXCEPT !.slot = TRUE, !.before = x.sent], e)
Resume(c, s, x, e) ==
    [ByModel(c, s, [x EXCEPT !.resumed = TRUE], e) EXCEPT
        !.sends = <<[type |-> "resumed", session |-> c, heard |-> e.heard]>>]
RequestResume(c, s, x, e) ==
    IF s.st = "connected" THEN [StepTo(s, x) EXCEPT !.due = <<"answer", c>>] ELSE WrongState(s, x, e)
Supersede(c, s, x) == [StepTo(Closed, x) EXCEPT !.due = <<"resumed", c>>]

---------------------------------------------------------------------------
(* One event: which of the above it is for *)

FromClient == {"join", "leave", "next", "offer", "answer", "candidate", "chat", "typing", "media", "status", "ice",
               "resume", "ping", "InvalidMessage", "RateLimited"}
Act(c, s, x0, e) ==
    LET x == IF e.type \in FromClient THEN [x0 EXCEPT !.silent = FALSE] ELSE x0
        t == e.type
    IN CASE t = "ConnectionOpened" -> Sends(s, [x EXCEPT !.silent = TRUE], ForProfile(c, x, <<[type |-> "welcome"]>>))
         [] t = "ping" -> Sends(s, x, <<[type |-> "pong", heard |-> x.received]>>)
         [] t = "ice" -> Sends(s, x, <<[type |-> "ice"]>>)
         [] t = "status" -> IF s.st = "negotiating" THEN CountStatus(s, x, e) ELSE WrongState(s, x, e)
         [] t = "InvalidMessage" -> ReceiveInvalid(c, s, x, e)
         [] t = "RateLimited" -> ReceiveRateLimited(c, s, x, e)
         [] t = "offer" /\ Live(s) -> DescriptionFromClient(c, s, Offers(s, x), e)
         [] t = "answer" /\ Live(s) -> DescriptionFromClient(c, s, x, e)
         [] t = "candidate" -> IF Live(s) THEN CandidateFromClient(c, s, x, e) ELSE WrongState(s, x, e)
         [] t \in {"typing", "media"} /\ ~Live(s) -> WrongState(s, x, e)
         [] t = "chat" /\ Live(s) -> ChatFromClientOrRefused(c, s, x, e)
         [] t = "PeerSent" -> FromPartner(c, s, x, e)
         [] t = "resume" -> RequestResume(c, s, x, e)
         [] t = "ResumeRefused" -> Sends(s, x, <<Error("resume_failed", "resume", FALSE)>>)
         [] t = "SessionSuperseded" -> Supersede(c, s, x)
         [] t = "ConnectionLost" -> LoseConnection(c, s, x, e)
         [] t = "SessionResumed" -> Resume(c, s, x, e)
         [] t = "DeadlinePassed" /\ e # [type |-> t] -> End(c, s, x, e)   \* the client is given up
         [] e = [type |-> "DeadlinePassed"] -> PassDeadline(c, s, x, e)
         [] t \in {"ConnectionClosed", "ClosingForced"} -> End(c, s, x, e)
         [] OTHER -> ByModel(c, s, x, e)

(* A session as lines have it *)
Usual == [state |-> None, silent |-> FALSE, room |-> None, wish |-> None, partner |-> None, polite |-> FALSE,
          view |-> "stable", described |-> FALSE, held |-> 0, hold |-> None, signals |-> 0, last |-> None,
          invalid |-> 0, rate_limited |-> 0, away |-> FALSE, answers_only |-> FALSE, failing |-> FALSE]
Shown(s, x) == Unusual(
    [state |-> s.st, silent |-> s.st = "connected" /\ x.silent, room |-> s.room, wish |-> s.wish,
     partner |-> s.partner, polite |-> s.polite, view |-> s.view, described |-> s.described,
     held |-> IF Live(s) THEN Len(x.held) ELSE 0, hold |-> IF Holding(s, x) THEN x.hold ELSE None,
     signals |-> IF Holding(s, x) THEN Len(x.signals) ELSE 0, last |-> x.last,
     invalid |-> x.invalid, rate_limited |-> x.rate_limited, away |-> s.away, answers_only |-> x.answers_only,
     failing |-> s.st = "negotiating" /\ x.failing], Usual)

StepLine(c, from, e, s, x, done) ==
    [n |-> next, what |-> "step", session |-> c, from |-> from, event |-> e,
     before |-> Shown(s, x), after |-> Shown(done.s, done.x)]
    @@ UnlessEmpty(done.sends, [sends |-> done.sends]) @@ UnlessEmpty(done.forwards, [forwards |-> done.forwards])
    @@ UnlessEmpty(done.requests, [requests |-> done.requests]) @@ UnlessEmpty(done.counts, [counts |-> done.counts])
    @@ UnlessEmpty(done.closes, [closes |-> done.closes[1]])

---------------------------------------------------------------------------
(* Events on their way: they are in the inbox at once, and the line about it is expected *)

Present == {c \in Clients : inboxStatus[c] = "open"}
WithTag(e) == e @@ [t |-> e.type]   \* in an inbox an event has Signaling's `t` too
QueuedLine(forward) ==
    IF forward.to \in Present THEN [what |-> "queued", to |-> forward.to, event |-> forward.event]
    ELSE [what |-> "missed", to |-> forward.to]
QueuedLines(forwards) == [k \in 1..Len(forwards) |-> QueuedLine(forwards[k])]
Reachable(forwards) == SelectSeq(forwards, LAMBDA forward : forward.to \in Present)
RECURSIVE EnqueueAll(_, _)
EnqueueAll(forwards, inboxes) ==
    IF forwards = <<>> THEN inboxes
    ELSE EnqueueAll(Tail(forwards), [inboxes EXCEPT ![Head(forwards).to] = Append(@, WithTag(Head(forwards).event))])
Queues(forwards, inboxes, ahead) ==
    LET all == Reachable(forwards)
    IN inbox' = EnqueueAll(all, inboxes) /\ order' = ahead \o [k \in 1..Len(all) |-> all[k].to]

(* Lines are numbered from 1 on. *)
Reading == next <= Len(Traces[tr]) /\ next' = next + 1 /\ tr' = tr /\ monitor' = monitor
Is(record) == Line = [n |-> next] @@ record
Read(what) == Reading /\ Line.what = what /\ Line.n = next
Done == expected = <<>> /\ due = None   \* what has to come next comes before anything that is queued,
Quiet == Done /\ order = <<>>       \* and that before anything else happens

---------------------------------------------------------------------------
(* The lines *)

Begin ==
    /\ Read("begin") /\ next = 1 /\ Is([what |-> "begin"] @@ Settings) /\ Settings.format = 4
    /\ UNCHANGED <<session, joins, requested, pool, inbox, inboxStatus, extra, attachedCount, expected, due, order, lastStepped, requesters, pairs, draining>>

Expected ==
    /\ expected # <<>> /\ Reading /\ Is(Head(expected))
    /\ expected' = Tail(expected) /\ lastStepped' = None
    /\ UNCHANGED <<session, joins, requested, pool, inbox, inboxStatus, extra, attachedCount, due, order, requesters, pairs, draining>>

Attached ==
    /\ Read("attached") /\ Quiet /\ next > 1
    /\ LET c == "s" \o ToString(attachedCount + 1) IN
       /\ Line.profile \in {"v1", "legacy"} /\ Is([what |-> "attached", session |-> c, profile |-> Line.profile])
       /\ extra' = [extra EXCEPT ![c] = [NewSession EXCEPT !.profile = Line.profile]]
       /\ inboxStatus' = [inboxStatus EXCEPT ![c] = "open"]
       /\ due' = <<"open", c>>
    /\ attachedCount' = attachedCount + 1 /\ lastStepped' = None
    /\ UNCHANGED <<session, joins, requested, pool, inbox, expected, order, requesters, pairs, draining>>

Received ==
    /\ Read("received") /\ Quiet
    /\ LET c == Line.session IN
       /\ c \in Present /\ ~session[c].away /\ Line.event.type \in FromClient
       /\ Is([what |-> "received", session |-> c, event |-> Line.event])
       /\ due' = <<"message", c, Line.event>>
       /\ extra' = IF Line.event.type = "resume" THEN extra
                  ELSE [extra EXCEPT ![c].received = @ + 1, ![c].slot = TRUE]
    /\ lastStepped' = None
    /\ UNCHANGED <<session, joins, requested, pool, inbox, inboxStatus, attachedCount, expected, order, requesters, pairs, draining>>

Faults == {1002, 1003, 1007, 1009, 4001, 4003}   \* of somebody who is connected, at any time
FromServer(c, e) ==   \* an event of the server itself, and when it may come
    LET s == session[c]  x == extra[c] IN
    CASE due = <<"open", c>> -> e = [type |-> "ConnectionOpened"]
      [] due = <<"drain", c>> -> expected = <<>> /\ e = Forced(4000)
      [] due = <<"answer", c>> -> \/ e = [type |-> "ResumeRefused"]
                                  \/ e = [type |-> "SessionSuperseded"] /\ ~x.resumed
      [] due = <<"refusal", c>> -> e = [type |-> "ResumeRefused"]
      [] due # None /\ due[1] = "resumed" ->
            expected = <<>> /\ due[2] # c /\ CanResume(x) /\ e = [type |-> "SessionResumed", heard |-> x.received]
      [] due = None /\ lastStepped = c /\ s.away /\ x.sent > x.before /\ ~Quiet -> e = [type |-> "ConnectionClosed"]
      [] Quiet ->
         \/ /\ e = [type |-> "DeadlinePassed"]
            /\ \/ s.st = "connected" /\ x.silent
               \/ s.st = "paired"
               \/ s.st = "negotiating" /\ x.failing
         \/ e = [type |-> "DeadlinePassed", gives_up |-> TRUE] /\ s.away
         \/ e = [type |-> "ConnectionClosed"]
         \/ e = [type |-> "ConnectionLost"] /\ ~s.away
         \/ e = Forced(4507) /\ CanResume(x) /\ ~x.slot
         \/ ~s.away /\ \E code \in Faults : e = Forced(code)
      [] OTHER -> FALSE

Stepped ==
    /\ Read("step")
    /\ LET c == Line.session  e == Line.event IN
       /\ c \in Present
       /\ CASE Line.from = "client" -> expected = <<>> /\ due = <<"message", c, e>>
            [] Line.from = "queue" -> Done /\ order # <<>> /\ Head(order) = c /\ Head(inbox[c]) = WithTag(e)
            [] Line.from = "server" -> FromServer(c, e)
            [] OTHER -> FALSE
       /\ LET done == Act(c, session[c], extra[c], e)
              taken == Line.from = "queue"
              ends == done.s.st = "closed"
              enters == \E k \in 1..Len(done.requests) : done.requests[k].type = "Enter"
              sent == done.x.sent + Len(done.sends) - (IF e.type = "SessionResumed" THEN 1 ELSE 0)   \* `resumed` has no part in it
          IN /\ done.s.st \in MayLead(session[c].st, e.type)
             /\ Line = StepLine(c, Line.from, e, session[c], extra[c], done)
             /\ Queues(done.forwards, IF taken THEN [inbox EXCEPT ![c] = Tail(@)] ELSE inbox,
                       IF taken THEN Tail(order) ELSE order)
             /\ expected' = expected \o QueuedLines(done.forwards)
                          \o (IF ends THEN <<[what |-> "detached", session |-> c, code |-> done.x.code, sent |-> sent]>>
                              ELSE <<>>)
             /\ inboxStatus' = IF ends THEN [inboxStatus EXCEPT ![c] = "detached"] ELSE inboxStatus
             /\ session' = [session EXCEPT ![c] = done.s]
             /\ due' = IF due = <<"open", c>> /\ draining THEN <<"drain", c>> ELSE done.due
             /\ extra' = [extra EXCEPT ![c] = [done.x EXCEPT !.sent = sent]]
             /\ requested' = [requested EXCEPT ![c] = @ \o [k \in 1..Len(done.requests) |->
                            done.requests[k] @@ [t |-> done.requests[k].type, id |-> done.requests[k].room]]]
             /\ requesters' = requesters \o [k \in 1..Len(done.requests) |-> c]
             /\ joins' = [joins EXCEPT ![c] = IF enters THEN @ + 1 ELSE @]
             /\ lastStepped' = c
    /\ UNCHANGED <<pool, attachedCount, pairs, draining>>

CanNotResume ==   \* a session that is asked for and can't go on is closed, once it is its turn
    /\ Read("queued") /\ expected = <<>> /\ due # None /\ due[1] = "answer"
    /\ LET c == due[2]  d == Line.to IN
       /\ ~extra[c].resumed /\ d \in Present \ {c} /\ CanResume(extra[d])
       /\ Is([what |-> "queued", to |-> d, event |-> Forced(4505)])
       /\ Queues(<<[to |-> d, event |-> Forced(4505)]>>, inbox, order)
       /\ due' = <<"refusal", c>>
    /\ lastStepped' = None
    /\ UNCHANGED <<session, joins, requested, pool, inboxStatus, extra, attachedCount, expected, requesters, pairs, draining>>

Missed ==   \* the session has ended before it was its turn
    /\ Read("missed") /\ Done /\ order # <<>>
    /\ LET c == Head(order) IN
       /\ c \notin Present /\ Is([what |-> "missed", to |-> c])
       /\ inbox' = [inbox EXCEPT ![c] = Tail(@)]
    /\ order' = Tail(order) /\ lastStepped' = None
    /\ UNCHANGED <<session, joins, requested, pool, inboxStatus, extra, attachedCount, expected, due, requesters, pairs, draining>>

(* The matchmaker. A ticket of a trace has the wish as it was said: a named room or None, and topics.              *)
IsFlexible(wish) == wish.topics = <<>> \/ wish.in # None \/ ~Settings.widens   \* ... anybody of its room, from the beginning
Share(x, y) == SelectSeq(x.wish.topics, LAMBDA topic : topic \in Range(y.wish.topics))
FitsByWish(x, y) == ~x.away /\ ~y.away /\ x.wish.in = y.wish.in /\ ((x.flexible /\ y.flexible) \/ Share(x, y) # <<>>)

MatchedLine(own, other, room) ==
    [type |-> "Matched", ticket |-> own.id, room |-> room, partner |-> Owner(other.id),
     profile |-> extra[Owner(other.id)].profile, offerer |-> own.id = room, topics |-> Share(own, other)]
Introduced ==   \* both are notified; if just one can be reached, it is notified that it is over already
    /\ Reading /\ Quiet /\ pairs # <<>>
    /\ LET first == Head(pairs)[1]
           second == Head(pairs)[2]
           a == Owner(first.id)
           b == Owner(second.id)
           over == [type |-> "PeerLeft", room |-> first.id, reason |-> "peer_lost"]
           forwards == <<[to |-> a, event |-> MatchedLine(first, second, first.id)],
                      [to |-> b, event |-> MatchedLine(second, first, first.id)]>>
                    \o (IF a \in Present /\ b \notin Present THEN <<[to |-> a, event |-> over]>> ELSE <<>>)
                    \o (IF a \notin Present /\ b \in Present THEN <<[to |-> b, event |-> over]>> ELSE <<>>)
       IN /\ Is(QueuedLine(forwards[1]))
          /\ expected' = QueuedLines(Tail(forwards))
          /\ Queues(forwards, inbox, order)
    /\ pairs' = Tail(pairs) /\ lastStepped' = None
    /\ UNCHANGED <<session, joins, requested, pool, inboxStatus, extra, attachedCount, due, requesters, draining>>

Pairs(ticket, place, others, keep) ==   \* place: of the ticket among the others, by how long they have waited
    LET found == {i \in 1..Len(others) : FitsByWish(ticket, others[i])}
        with(i) == IF i < place THEN <<others[i], ticket>> ELSE <<ticket, others[i]>>
    IN IF "pair" \notin DOMAIN Line
       THEN found = {} /\ pool' = keep /\ pairs' = pairs
       ELSE \E i \in found : /\ Line.pair = <<with(i)[1].id, with(i)[2].id>>
                             /\ pool' = Without(others, i) /\ pairs' = Append(pairs, with(i))
WithPair(record, may) == IF may /\ "pair" \in DOMAIN Line THEN record @@ [pair |-> Line.pair] ELSE record

Served ==
    /\ Read("served") /\ Quiet /\ requesters # <<>>
    /\ LET request == Line.request
           c == Head(requesters)
       IN /\ Head(requested[c]) = request @@ [t |-> request.type, id |-> request.room]
          /\ requested' = [requested EXCEPT ![c] = Tail(@)]
          /\ CASE request.type = "Enter" ->
                    LET ticket == [id |-> request.room, wish |-> request.wish, flexible |-> IsFlexible(request.wish), away |-> FALSE]
                    IN Pairs(ticket, Len(pool) + 1, pool, Append(pool, ticket))
               [] request.type = "Withdraw" ->
                    pool' = SelectSeq(pool, LAMBDA ticket : ticket.id # request.room) /\ pairs' = pairs
               [] request.type = "Suspend" ->
                    /\ pool' = [i \in 1..Len(pool) |-> [pool[i] EXCEPT !.away = @ \/ pool[i].id = request.room]]
                    /\ pairs' = pairs
               [] request.type = "Reinstate" /\ ~Returning(request.room) -> UNCHANGED <<pool, pairs>>
               [] request.type = "Reinstate" /\ Returning(request.room) ->
                    LET i == Place(request.room)
                        ticket == [pool[i] EXCEPT !.away = FALSE]
                    IN Pairs(ticket, i, Without(pool, i), [pool EXCEPT ![i] = ticket])
          /\ Is(WithPair([what |-> "served", request |-> request, waiting |-> Len(pool')], request.type \in {"Enter", "Reinstate"}))
    /\ requesters' = Tail(requesters) /\ lastStepped' = None
    /\ UNCHANGED <<session, joins, inbox, inboxStatus, extra, attachedCount, expected, due, order, draining>>

Widened ==   \* the strict ticket that has waited longest becomes flexible
    /\ Read("widened") /\ Quiet
    /\ LET strict == {i \in 1..Len(pool) : ~pool[i].flexible /\ ~pool[i].away}
           i == First(strict)
           ticket == [pool[i] EXCEPT !.flexible = TRUE]
       IN /\ strict # {}
          /\ Pairs(ticket, i, Without(pool, i), [pool EXCEPT ![i] = ticket])
          /\ Is(WithPair([what |-> "widened", room |-> ticket.id, waiting |-> Len(pool')], TRUE))
    /\ lastStepped' = None
    /\ UNCHANGED <<session, joins, requested, inbox, inboxStatus, extra, attachedCount, expected, due, order, requesters, draining>>

Draining ==
    /\ Read("draining") /\ Quiet /\ ~draining /\ draining' = TRUE /\ next > 1
    /\ Is([what |-> "draining"])
    /\ LET names == [k \in 1..attachedCount |-> "s" \o ToString(k)]
           present == SelectSeq(names, LAMBDA c : c \in Present)
           forwards == [k \in 1..Len(present) |-> [to |-> present[k], event |-> Forced(4000)]]
       IN expected' = QueuedLines(forwards) /\ Queues(forwards, inbox, order)
    /\ lastStepped' = None
    /\ UNCHANGED <<session, joins, requested, pool, inboxStatus, extra, attachedCount, due, requesters, pairs>>

Ended ==
    /\ Read("end") /\ Quiet /\ Is([what |-> "end", drained |-> draining] @@ Settings)
    /\ Present = {} /\ next = Len(Traces[tr])
    /\ PrintT(<<"accepted", tr>>)
    /\ UNCHANGED <<session, joins, requested, pool, inbox, inboxStatus, extra, attachedCount, expected, due, order, lastStepped, requesters, pairs, draining>>

---------------------------------------------------------------------------

TraceInit ==   \* as Init, but nobody is there before it is attached
    /\ tr \in (IF Forks = <<>> THEN 1..Len(Traces) ELSE {1}) /\ next = 1 /\ attachedCount = 0 /\ draining = FALSE
    /\ expected = <<>> /\ due = None /\ order = <<>> /\ lastStepped = None /\ requesters = <<>> /\ pairs = <<>>
    /\ session = [c \in Clients |-> Connected] /\ joins = [c \in Clients |-> 0]
    /\ requested = [c \in Clients |-> <<>>] /\ pool = <<>> /\ inbox = [c \in Clients |-> <<>>]
    /\ inboxStatus = [c \in Clients |-> "detached"] /\ monitor = [c \in Clients |-> <<"idle", None>>]
    /\ extra = [c \in Clients |-> NewSession]
Branch ==   \* Forks[k]: numbers of traces that are trace 1 up to its line k; so what they share is looked at once
    /\ tr = 1 /\ next <= Len(Forks)
    /\ tr' \in Forks[next]
    /\ UNCHANGED <<vars, next, extra, attachedCount, expected, due, order, lastStepped, requesters, pairs, draining>>

TraceNext == \/ Branch \/ Begin \/ Expected \/ Attached \/ Received \/ Stepped \/ CanNotResume \/ Missed
             \/ Introduced \/ Served \/ Widened \/ Draining \/ Ended

(* As WaitingIsKnown: whoever waits may also have left the pool, and be about to hear of it. *)
WaitingIsTracked ==
    \A c \in Clients : IsWaiting(c) =>
        LET id == session[c].room IN
        \/ InPool(id) \/ IsRequested(c, "Enter", id) \/ HasMatch(c, id)
        \/ \E k \in 1..Len(pairs) : id \in {pairs[k][1].id, pairs[k][2].id}
=============================================================================
