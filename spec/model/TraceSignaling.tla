--------------------------- MODULE TraceSignaling ---------------------------
(* Is what a server wrote with --trace a behaviour of Signaling?                                                   *)
(*                                                                                                                 *)
(* How to read this: after Signaling.tla, which begins with how to read TLA+, and with ../trace.md at hand, which  *)
(* tells the lines. Here a line is a record, `line.session` its field; [line] @@ [more] has the fields of both.    *)
(* traces.py writes the module TraceData: Traces[k] is trace number k, line by line. A room s1/2 is <<"s1", 2>>,   *)
(* the second wait of s1, as in Signaling.                                                                         *)
(*                                                                                                                 *)
(* Every action is one line: Fits the line? Then these are the variables afterwards. So each trace is one chain of *)
(* states; it is accepted if the chain comes to its line `end`, and then its number is printed.                    *)
(*                                                                                                                 *)
(* What a session does is React, Signaling's own, and every step leads where its row of the session table says.    *)
(* What Signaling leaves out is added here, in `more` of each client: the legacy profile, close codes and reasons, *)
(* what is counted, candidates, resuming. To React a candidate that passes is a chat, as `typing` is, and every    *)
(* way to close is ConnectionClosed; the Mistakes are none. What Signaling leaves open, a server that runs to      *)
(* completion does not: inboxes are taken from in the order of one queue, before anything else happens.            *)
(*                                                                                                                 *)
(* Left out: which of several fitting tickets the matchmaker prefers, and lines that tell of a bug.                *)
EXTENDS Signaling, TLC, TraceData

VARIABLES
    tr,        \* which trace this is
    next,      \* which of its lines is read next
    more,      \* of each client: what Signaling does not know of its session
    here,      \* how many sessions have come so far: s1, s2, ... in this order
    owed,      \* the lines that have to follow, but for their numbers: what became of events, and of who is closed
    due,       \* what has to come after those: <<"open", client>>: it has just come; <<"drain", client>>: too late;
               \* <<"message", client, event>>: just received; <<"answer", client>>: to its `resume` ("refusal": only no);
               \* <<"resumed", client>>: another session goes on over the connection of this one; or None
    order,     \* the queue: for whom each event in the inboxes is, in the order in which they are taken
    just,      \* whose step the last line was, or None
    wanted,    \* who has asked for each request in `asked`, in the order in which they are served
    pairs,     \* tickets that left the pool together, and whose sessions are not told yet
    draining   \* the server is going away

Range(list) == {list[k] : k \in 1..Len(list)}
RECURSIVE Concat(_)
Concat(lists) == IF lists = <<>> THEN <<>> ELSE Head(lists) \o Concat(Tail(lists))

(* What holds its usual value is not told. *)
Brief(record, usual) == [f \in {f \in DOMAIN record : record[f] # usual[f]} |-> record[f]]
Perhaps(list, record) == IF list = <<>> THEN [f \in {} |-> None] ELSE record

Stranger == [profile |-> None, silent |-> FALSE, last |-> None, invalid |-> 0, rate_limited |-> 0,
             received |-> 0, sent |-> 0, before |-> 0, code |-> None, slot |-> FALSE, resumed |-> FALSE,
             own |-> None, mine |-> {}, theirs |-> {}, peer |-> {}, refused |-> <<>>, held |-> <<>>,
             hold |-> None, signals |-> <<>>, answers_only |-> FALSE, failing |-> FALSE]
(* silent: nothing was received yet. last: the last partner. received, sent: how many messages from the client (but *)
(* for `resume`), and to it; before: sent when its connection was lost. slot: it has one for sure. resumed: it has *)
(* gone on over another connection. own, peer: ICE generations of the last finished exchange;                      *)
(* mine, theirs: of the pending offer; refused: void ones. held: candidates whose description has not come.        *)
(* hold, signals, answers_only: see Release. failing: the client says that media failed, and not yet that they flow.*)

Line == Traces[tr][next]
Settings == [f \in {"format", "widens", "resumes", "relay_only"} |-> Traces[tr][1][f]]

---------------------------------------------------------------------------
(* What a step does: the session, what is more, and all that is to be done, as lines tell it *)

Doing(s, x) == [s |-> s, x |-> x, says |-> <<>>, tells |-> <<>>, asks |-> <<>>, counts |-> <<>>, closes |-> <<>>,
                due |-> None]
Says(s, x, says) == [Doing(s, x) EXCEPT !.says = says]
Error(code, ref, fatal) == [type |-> "error", code |-> code, ref |-> ref, fatal |-> fatal]
WrongState(s, x, e) == Says(s, x, <<Error("wrong_state", e.type, FALSE)>>)

OldVocabulary == {"ready", "join", "offer", "answer", "candidate", "leave", "error"}
(* An old client is told neither what it does not know nor that it has left itself. *)
IsFor(c, x, m) == x.profile = "v1" \/ (m.type \in OldVocabulary /\ ~(m.type = "leave" /\ m.from = c))
Heed(c, x, says) == SelectSeq(says, LAMBDA m : IsFor(c, x, m))

(* Why a pairing or a wait ends *)
Why(s, e) ==
    CASE e.type = "leave" -> "left"
      [] e.type = "next" -> "next"
      [] e.type = "PeerLeft" -> e.reason
      [] e = [type |-> "DeadlinePassed"] -> IF s.st = "paired" THEN "negotiation_timeout" ELSE "media_failed"
      [] e.type = "Matched" -> IF s.st = "closed" THEN "peer_lost" ELSE "left"
      [] e.type = "ClosingForced" -> IF e.code = 4000 THEN "server_shutdown" ELSE "peer_lost"
      [] OTHER -> "peer_lost"

(* Why something said is refused *)
Because(s, e) ==
    IF e.type = "offer" /\ Live(s) /\ s.view = "stable" THEN "not_your_turn" ELSE "wrong_state"

(* What Signaling says to the client and tells a partner, as lines tell it *)
SaidLine(s, e, m) ==
    CASE m.t = "ready" -> [type |-> "ready", room |-> m.room]
      [] m.t = "join" -> [type |-> "join", room |-> m.room, from |-> e.partner, polite |-> ~e.offerer,
                          role |-> IF e.offerer THEN "offerer" ELSE "answerer", topics |-> e.topics]
      [] m.t = "leave" -> [type |-> "leave", room |-> m.room, from |-> m.from, reason |-> Why(s, e)]
      [] m.t = "said" -> [type |-> e.kind, room |-> m.room, from |-> m.from]
      [] m.t = "error" -> Error(Because(s, e), m.ref, FALSE)
      [] m.t = "peer" -> [type |-> "peer", state |-> m.state]
Ice(e) == [f \in DOMAIN e \cap {"ice", "relay"} |-> e[f]]   \* what is told of a description or a candidate
TellLine(s, e, tell) ==
    [to |-> tell.to,
     event |-> CASE tell.event.t = "PeerLeft" -> [type |-> "PeerLeft", room |-> tell.event.room, reason |-> Why(s, e)]
                 [] tell.event.t = "PeerSent" -> [type |-> "PeerSent", room |-> tell.event.room, kind |-> e.type] @@ Ice(e)
                 [] tell.event.t = "PeerPresence" ->
                      [type |-> "PeerPresence", room |-> tell.event.room, state |-> tell.event.state]]
AskLine(x, ask) ==
    IF ask.t # "Enter" THEN [type |-> ask.t, room |-> ask.id]
    ELSE [type |-> "Enter", room |-> ask.id, profile |-> x.profile, wish |-> ask.wish]
         @@ (IF x.last = None THEN [f \in {} |-> None] ELSE [avoid |-> x.last])

(* As Signaling names events *)
Plain(s, e) ==
    CASE e.type = "join" -> [t |-> "join", wish |-> e.wish]
      [] e.type \in {"candidate", "typing"} -> [t |-> "chat"]
      [] e.type = "Matched" -> Matched(e.ticket, e.room, e.partner, e.offerer)
      [] e.type = "PeerSent" -> PeerSent(e.room, s.partner, IF e.kind \in {"candidate", "typing"} THEN "chat" ELSE e.kind)
      [] e.type = "PeerLeft" -> PeerLeft(e.room)
      [] e.type = "PeerPresence" -> PeerPresence(e.room, e.state)
      [] OTHER -> [t |-> e.type]

(* What Signaling does, as lines tell it. Whoever leaves a pairing alive remembers the partner; whoever gets one    *)
(* begins anew.                                                                                                    *)
AsLines(c, s, x, e, step) ==
    LET parts == Live(s) /\ ~Live(step.s) /\ step.s.st # "closed"
        meets == ~Live(s) /\ Live(step.s)
        fresh == [x EXCEPT !.own = None, !.mine = {}, !.theirs = {}, !.peer = {}, !.refused = <<>>, !.held = <<>>,
                           !.hold = IF x.profile = "legacy" /\ step.s.polite /\ ~x.answers_only THEN "first" ELSE None,
                           !.signals = <<>>, !.failing = FALSE]
        x2 == IF meets THEN fresh ELSE IF parts THEN [x EXCEPT !.last = s.partner] ELSE x
    IN [Doing(step.s, x2) EXCEPT
            !.says = Heed(c, x, [k \in 1..Len(step.says) |-> SaidLine(s, e, step.says[k])]),
            !.tells = [k \in 1..Len(step.tells) |-> TellLine(s, e, step.tells[k])],
            !.asks = [k \in 1..Len(step.asks) |-> AskLine(x2, step.asks[k])]]
ByModel(c, s, x, e) == AsLines(c, s, x, e, React(c, s, Plain(s, e), <<c, joins[c] + 1>>, TRUE))

(* The end, for whatever reason. A shutdown is told on the way out. *)
End(c, s, x, e) ==
    LET done == AsLines(c, s, x, e, React(c, s, [t |-> "ConnectionClosed"], None, TRUE))
        bye == (IF Live(s) THEN <<[type |-> "leave", room |-> s.room, from |-> s.partner,
                                   reason |-> "server_shutdown"]>> ELSE <<>>)
               \o <<[type |-> "goaway", reason |-> "server_shutdown"]>>
        code == IF "code" \in DOMAIN e THEN e.code ELSE None
    IN IF s.st = "closed" THEN Doing(s, x)
       ELSE [done EXCEPT !.says = IF code = 4000 THEN Heed(c, x, bye) ELSE <<>>,
                         !.x.code = code, !.closes = <<code>>]
Forced(code) == [type |-> "ClosingForced", code |-> code]

(* What was not understood, or was one too many, is told; the last straw closes. *)
Complain(c, s, x, error, code) ==
    IF ~error.fatal THEN Says(s, x, <<error>>)
    ELSE LET done == End(c, s, x, Forced(code)) IN [done EXCEPT !.says = <<error>> \o @]
Misunderstand(c, s, x, e) ==
    LET count == x.invalid + 1
        ref == IF "ref" \in DOMAIN e THEN e.ref ELSE None
    IN Complain(c, s, [x EXCEPT !.invalid = count], Error(e.code, ref, count >= 20), 4501)
CoolDown(c, s, x) ==
    LET count == x.rate_limited + 1
    IN Complain(c, s, [x EXCEPT !.rate_limited = count], Error("rate_limited", None, count >= 100), 4003)

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

SayDescription(c, s, x, e) ==   \* after it go the held candidates that are its own; the others are dropped
    LET done == ByModel(c, s, x, e)
        passes == done.tells # <<>>
        mine == Range(e.ice)
        followers == SelectSeq(x.held, LAMBDA held : IsOf(held.ice, mine))
        follow(k) == [to |-> s.partner,
                      event |-> [type |-> "PeerSent", room |-> s.room, kind |-> "candidate"] @@ followers[k]]
        cross == e.type = "offer" /\ s.view = "remote"
        x2 == IF cross THEN Void(x, x.theirs, AsList(x.theirs)) ELSE x
        x3 == IF e.type = "offer" THEN [x2 EXCEPT !.mine = mine, !.held = <<>>]
              ELSE [x2 EXCEPT !.own = mine, !.peer = x.theirs, !.held = <<>>]
    IN CASE passes -> [done EXCEPT !.x = x3, !.tells = @ \o [k \in 1..Len(followers) |-> follow(k)]]
         [] ~passes /\ cross -> Doing(s, x)   \* the polite one's: dropped in silence
         [] OTHER -> done

Given(c, s, x, e) ==   \* a signal of the partner's is judged, and passed to the client if it stands
    LET done == ByModel(c, s, x, e)
        passes == done.says # <<>>
    IN CASE e.kind = "offer" /\ passes -> [done EXCEPT !.x = [Stands(x, e.ice) EXCEPT !.theirs = Range(e.ice)]]
         [] e.kind = "offer" /\ ~passes -> [done EXCEPT !.x = Void(x, Range(e.ice), e.ice)]
         [] e.kind = "answer" /\ passes ->
              [done EXCEPT !.x = [Stands(x, e.ice) EXCEPT !.own = x.mine, !.peer = Range(e.ice)]]
         [] e.kind = "candidate" /\ Range(e.ice) \cap Range(x.refused) # {} -> Doing(s, x)
         [] OTHER -> done

(* A legacy answerer may be about to offer all the same, so the partner's signals are held: a "first" hold, or a    *)
(* "long" one once it has offered. If the first ends with the clock, the client only answers: answers_only.        *)
RECURSIVE GiveAll(_, _, _, _)
GiveAll(c, s, x, signals) ==
    IF signals = <<>> THEN Doing(s, x)
    ELSE LET one == Given(c, s, x, Head(signals))
             rest == GiveAll(c, one.s, one.x, Tail(signals))
         IN [rest EXCEPT !.says = one.says \o @]
Release(c, s, x) == GiveAll(c, s, [x EXCEPT !.hold = None, !.signals = <<>>], x.signals)
Holding(s, x) == s.st = "paired" /\ x.hold # None

Offers(s, x) ==   \* as answerer, before anything was answered
    IF x.profile # "legacy" \/ ~s.polite \/ s.described THEN x
    ELSE [x EXCEPT !.answers_only = FALSE, !.hold = IF Holding(s, x) THEN "long" ELSE @]

Hear2(c, s, x, e) ==
    LET keep == [x EXCEPT !.signals = Append(@, e)] IN
    CASE ~Live(s) \/ e.room # s.room -> Doing(s, x)
      [] Live(s) /\ e.room = s.room /\ Holding(s, x) /\ e.kind \notin {"chat", "typing"} ->
            IF Len(keep.signals) < 64 THEN Doing(s, keep) ELSE Release(c, s, keep)
      [] OTHER -> Given(c, s, x, e)

SayCandidate(c, s, x, e) ==
    LET described == (x.own # None /\ IsOf(e.ice, x.own)) \/ (s.view = "local" /\ IsOf(e.ice, x.mine))
        passed == ByModel(c, s, x, e)
        held == Doing(s, [x EXCEPT !.held = Append(@, Ice(e))])
        withheld == Settings.relay_only /\ "relay" \notin DOMAIN e
        done == CASE withheld -> [Doing(s, x) EXCEPT !.counts = <<"candidate_withheld">>]
                  [] ~withheld /\ described -> passed
                  [] ~withheld /\ ~described /\ Len(x.held) < 64 -> held
                  [] OTHER -> WrongState(s, x, e)
        released == Release(c, s, done.x)
    IN IF Holding(s, x)
       THEN [released EXCEPT !.says = done.says \o @, !.tells = done.tells, !.counts = done.counts]
       ELSE done

SayChat2(c, s, x, e) ==
    IF more[s.partner].profile = "legacy" THEN Says(s, x, <<Error("unsupported", "chat", FALSE)>>)
    ELSE ByModel(c, s, x, e)

TellStatus(s, x, e) ==
    LET detail == IF e.media = "connected" THEN "path" ELSE "stage"
        name == "media_" \o e.media \o (IF detail \in DOMAIN e THEN "_" \o e[detail] ELSE "")
    IN [Doing(s, [x EXCEPT !.failing = e.media = "failed"]) EXCEPT !.counts = <<name>>]

RunOut(c, s, x, e) ==   \* a deadline of the state's own
    CASE s.st = "connected" -> End(c, s, x, Forced(4502))
      [] Holding(s, x) -> Release(c, s, [x EXCEPT !.answers_only = @ \/ x.hold = "first"])
      [] Live(s) /\ ~Holding(s, x) -> AsLines(c, s, x, e, GiveUpNegotiation(s))

---------------------------------------------------------------------------
(* Connections that are lost, and sessions that are resumed *)

CanResume(x) == Settings.resumes /\ x.profile = "v1"
LoseConnection(c, s, x, e) ==   \* with which code it was closed, if there was anybody to tell, is told only of who ends
    LET code == IF "closes" \in DOMAIN Line /\ Line.closes = 4002 THEN 4002 ELSE None
    IN IF ~CanResume(x) \/ (s.st = "connected" /\ x.silent) THEN End(c, s, x, e @@ [code |-> code])
       ELSE ByModel(c, s, [x EXCEPT !.slot = TRUE, !.before = x.sent], e)
Resume(c, s, x, e) ==
    [ByModel(c, s, [x EXCEPT !.resumed = TRUE], e) EXCEPT
        !.says = <<[type |-> "resumed", session |-> c, heard |-> e.heard]>>]
AskToResume(c, s, x, e) ==
    IF s.st = "connected" THEN [Doing(s, x) EXCEPT !.due = <<"answer", c>>] ELSE WrongState(s, x, e)
Supersede(c, s, x) == [Doing(Closed, x) EXCEPT !.due = <<"resumed", c>>]

---------------------------------------------------------------------------
(* One event: which of the above it is for *)

FromClient == {"join", "leave", "next", "offer", "answer", "candidate", "chat", "typing", "status", "ice", "resume",
               "ping", "InvalidMessage", "RateLimited"}
Act(c, s, x0, e) ==
    LET x == IF e.type \in FromClient THEN [x0 EXCEPT !.silent = FALSE] ELSE x0
        t == e.type
    IN CASE t = "ConnectionOpened" -> Says(s, [x EXCEPT !.silent = TRUE], Heed(c, x, <<[type |-> "welcome"]>>))
         [] t = "ping" -> Says(s, x, <<[type |-> "pong"]>>)
         [] t = "ice" -> Says(s, x, <<[type |-> "ice"]>>)
         [] t = "status" -> IF s.st = "negotiating" THEN TellStatus(s, x, e) ELSE WrongState(s, x, e)
         [] t = "InvalidMessage" -> Misunderstand(c, s, x, e)
         [] t = "RateLimited" -> CoolDown(c, s, x)
         [] t = "offer" /\ Live(s) -> SayDescription(c, s, Offers(s, x), e)
         [] t = "answer" /\ Live(s) -> SayDescription(c, s, x, e)
         [] t = "candidate" -> IF Live(s) THEN SayCandidate(c, s, x, e) ELSE WrongState(s, x, e)
         [] t = "typing" /\ ~Live(s) -> WrongState(s, x, e)
         [] t = "chat" /\ Live(s) -> SayChat2(c, s, x, e)
         [] t = "PeerSent" -> Hear2(c, s, x, e)
         [] t = "resume" -> AskToResume(c, s, x, e)
         [] t = "ResumeRefused" -> Says(s, x, <<Error("resume_failed", "resume", FALSE)>>)
         [] t = "SessionSuperseded" -> Supersede(c, s, x)
         [] t = "ConnectionLost" -> LoseConnection(c, s, x, e)
         [] t = "SessionResumed" -> Resume(c, s, x, e)
         [] t = "DeadlinePassed" /\ e # [type |-> t] -> End(c, s, x, e)   \* the client is given up
         [] e = [type |-> "DeadlinePassed"] -> RunOut(c, s, x, e)
         [] t \in {"ConnectionClosed", "ClosingForced"} -> End(c, s, x, e)
         [] OTHER -> ByModel(c, s, x, e)

(* A session as lines tell it *)
Usual == [state |-> None, silent |-> FALSE, room |-> None, wish |-> None, partner |-> None, polite |-> FALSE,
          view |-> "stable", described |-> FALSE, held |-> 0, hold |-> None, signals |-> 0, last |-> None,
          invalid |-> 0, rate_limited |-> 0, away |-> FALSE, answers_only |-> FALSE, failing |-> FALSE]
Shown(s, x) == Brief(
    [state |-> s.st, silent |-> s.st = "connected" /\ x.silent, room |-> s.room, wish |-> s.wish,
     partner |-> s.partner, polite |-> s.polite, view |-> s.view, described |-> s.described,
     held |-> IF Live(s) THEN Len(x.held) ELSE 0, hold |-> IF Holding(s, x) THEN x.hold ELSE None,
     signals |-> IF Holding(s, x) THEN Len(x.signals) ELSE 0, last |-> x.last,
     invalid |-> x.invalid, rate_limited |-> x.rate_limited, away |-> s.away, answers_only |-> x.answers_only,
     failing |-> s.st = "negotiating" /\ x.failing], Usual)

StepLine(c, from, e, s, x, done) ==
    [n |-> next, what |-> "step", session |-> c, from |-> from, event |-> e,
     before |-> Shown(s, x), after |-> Shown(done.s, done.x)]
    @@ Perhaps(done.says, [sends |-> done.says]) @@ Perhaps(done.tells, [forwards |-> done.tells])
    @@ Perhaps(done.asks, [requests |-> done.asks]) @@ Perhaps(done.counts, [counts |-> done.counts])
    @@ Perhaps(done.closes, [closes |-> done.closes[1]])

---------------------------------------------------------------------------
(* Events on their way: they are in the inbox at once, and the line that tells so is owed *)

Here == {c \in Clients : door[c] = "open"}
AsTold(e) == e @@ [t |-> e.type]   \* in an inbox an event has Signaling's `t` too
Fate(tell) ==
    IF tell.to \in Here THEN [what |-> "queued", to |-> tell.to, event |-> tell.event]
    ELSE [what |-> "missed", to |-> tell.to]
Fates(tells) == [k \in 1..Len(tells) |-> Fate(tells[k])]
Reaching(tells) == SelectSeq(tells, LAMBDA tell : tell.to \in Here)
RECURSIVE PutAll(_, _)
PutAll(tells, boxes) ==
    IF tells = <<>> THEN boxes
    ELSE PutAll(Tail(tells), [boxes EXCEPT ![Head(tells).to] = Append(@, AsTold(Head(tells).event))])
Queues(tells, boxes, ahead) ==
    LET all == Reaching(tells)
    IN inbox' = PutAll(all, boxes) /\ order' = ahead \o [k \in 1..Len(all) |-> all[k].to]

(* Lines are numbered from 1 on. *)
Reading == next <= Len(Traces[tr]) /\ next' = next + 1 /\ tr' = tr /\ ear' = ear
Is(record) == Line = [n |-> next] @@ record
Read(what) == Reading /\ Line.what = what /\ Line.n = next
Done == owed = <<>> /\ due = None   \* what has to come next comes before anything that is queued,
Quiet == Done /\ order = <<>>       \* and that before anything else happens

---------------------------------------------------------------------------
(* The lines *)

Begin ==
    /\ Read("begin") /\ next = 1 /\ Is([what |-> "begin"] @@ Settings) /\ Settings.format = 3
    /\ UNCHANGED <<session, joins, asked, pool, inbox, door, more, here, owed, due, order, just, wanted, pairs, draining>>

Owed ==
    /\ owed # <<>> /\ Reading /\ Is(Head(owed))
    /\ owed' = Tail(owed) /\ just' = None
    /\ UNCHANGED <<session, joins, asked, pool, inbox, door, more, here, due, order, wanted, pairs, draining>>

Attached ==
    /\ Read("attached") /\ Quiet /\ next > 1
    /\ LET c == "s" \o ToString(here + 1) IN
       /\ Line.profile \in {"v1", "legacy"} /\ Is([what |-> "attached", session |-> c, profile |-> Line.profile])
       /\ more' = [more EXCEPT ![c] = [Stranger EXCEPT !.profile = Line.profile]]
       /\ door' = [door EXCEPT ![c] = "open"]
       /\ due' = <<"open", c>>
    /\ here' = here + 1 /\ just' = None
    /\ UNCHANGED <<session, joins, asked, pool, inbox, owed, order, wanted, pairs, draining>>

Received ==
    /\ Read("received") /\ Quiet
    /\ LET c == Line.session IN
       /\ c \in Here /\ ~session[c].away /\ Line.event.type \in FromClient
       /\ Is([what |-> "received", session |-> c, event |-> Line.event])
       /\ due' = <<"message", c, Line.event>>
       /\ more' = IF Line.event.type = "resume" THEN more
                  ELSE [more EXCEPT ![c].received = @ + 1, ![c].slot = TRUE]
    /\ just' = None
    /\ UNCHANGED <<session, joins, asked, pool, inbox, door, here, owed, order, wanted, pairs, draining>>

Faults == {1002, 1003, 1007, 1009, 4001, 4003}   \* of somebody who is connected, at any time
Own(c, e) ==   \* what the server itself has to say, and when it may
    LET s == session[c]  x == more[c] IN
    CASE due = <<"open", c>> -> e = [type |-> "ConnectionOpened"]
      [] due = <<"drain", c>> -> owed = <<>> /\ e = Forced(4000)
      [] due = <<"answer", c>> -> \/ e = [type |-> "ResumeRefused"]
                                  \/ e = [type |-> "SessionSuperseded"] /\ ~x.resumed
      [] due = <<"refusal", c>> -> e = [type |-> "ResumeRefused"]
      [] due # None /\ due[1] = "resumed" ->
            owed = <<>> /\ due[2] # c /\ CanResume(x) /\ e = [type |-> "SessionResumed", heard |-> x.received]
      [] due = None /\ just = c /\ s.away /\ x.sent > x.before /\ ~Quiet -> e = [type |-> "ConnectionClosed"]
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
       /\ c \in Here
       /\ CASE Line.from = "client" -> owed = <<>> /\ due = <<"message", c, e>>
            [] Line.from = "queue" -> Done /\ order # <<>> /\ Head(order) = c /\ Head(inbox[c]) = AsTold(e)
            [] Line.from = "server" -> Own(c, e)
            [] OTHER -> FALSE
       /\ LET done == Act(c, session[c], more[c], e)
              taken == Line.from = "queue"
              ends == done.s.st = "closed"
              enters == \E k \in 1..Len(done.asks) : done.asks[k].type = "Enter"
              sent == done.x.sent + Len(done.says) - (IF e.type = "SessionResumed" THEN 1 ELSE 0)   \* `resumed` has no part in it
          IN /\ done.s.st \in MayLead(session[c].st, e.type)
             /\ Line = StepLine(c, Line.from, e, session[c], more[c], done)
             /\ Queues(done.tells, IF taken THEN [inbox EXCEPT ![c] = Tail(@)] ELSE inbox,
                       IF taken THEN Tail(order) ELSE order)
             /\ owed' = owed \o Fates(done.tells)
                          \o (IF ends THEN <<[what |-> "detached", session |-> c, code |-> done.x.code, sent |-> sent]>>
                              ELSE <<>>)
             /\ door' = IF ends THEN [door EXCEPT ![c] = "detached"] ELSE door
             /\ session' = [session EXCEPT ![c] = done.s]
             /\ due' = IF due = <<"open", c>> /\ draining THEN <<"drain", c>> ELSE done.due
             /\ more' = [more EXCEPT ![c] = [done.x EXCEPT !.sent = sent]]
             /\ asked' = [asked EXCEPT ![c] = @ \o [k \in 1..Len(done.asks) |->
                            done.asks[k] @@ [t |-> done.asks[k].type, id |-> done.asks[k].room]]]
             /\ wanted' = wanted \o [k \in 1..Len(done.asks) |-> c]
             /\ joins' = [joins EXCEPT ![c] = IF enters THEN @ + 1 ELSE @]
             /\ just' = c
    /\ UNCHANGED <<pool, here, pairs, draining>>

Replaced ==   \* a session that is asked for and can't go on is closed, once it is its turn
    /\ Read("queued") /\ owed = <<>> /\ due # None /\ due[1] = "answer"
    /\ LET c == due[2]  d == Line.to IN
       /\ ~more[c].resumed /\ d \in Here \ {c} /\ CanResume(more[d])
       /\ Is([what |-> "queued", to |-> d, event |-> Forced(4505)])
       /\ Queues(<<[to |-> d, event |-> Forced(4505)]>>, inbox, order)
       /\ due' = <<"refusal", c>>
    /\ just' = None
    /\ UNCHANGED <<session, joins, asked, pool, door, more, here, owed, wanted, pairs, draining>>

Missed ==   \* the session has ended before it was its turn
    /\ Read("missed") /\ Done /\ order # <<>>
    /\ LET c == Head(order) IN
       /\ c \notin Here /\ Is([what |-> "missed", to |-> c])
       /\ inbox' = [inbox EXCEPT ![c] = Tail(@)]
    /\ order' = Tail(order) /\ just' = None
    /\ UNCHANGED <<session, joins, asked, pool, door, more, here, owed, due, wanted, pairs, draining>>

(* The matchmaker. A ticket of a trace has the wish as it was said: a named room or None, and topics. *)
Takes(wish) == wish.topics = <<>> \/ wish.in # None \/ ~Settings.widens   \* ... anybody of its room, from the beginning
Share(x, y) == SelectSeq(x.wish.topics, LAMBDA topic : topic \in Range(y.wish.topics))
FitsAsSaid(x, y) == ~x.away /\ ~y.away /\ x.wish.in = y.wish.in /\ ((x.flexible /\ y.flexible) \/ Share(x, y) # <<>>)

MatchedLine(own, other, room) ==
    [type |-> "Matched", ticket |-> own.id, room |-> room, partner |-> Owner(other.id),
     profile |-> more[Owner(other.id)].profile, offerer |-> own.id = room, topics |-> Share(own, other)]
Introduced ==   \* both are told; if just one can be reached, it is told that it is over already
    /\ Reading /\ Quiet /\ pairs # <<>>
    /\ LET first == Head(pairs)[1]
           second == Head(pairs)[2]
           a == Owner(first.id)
           b == Owner(second.id)
           over == [type |-> "PeerLeft", room |-> first.id, reason |-> "peer_lost"]
           tells == <<[to |-> a, event |-> MatchedLine(first, second, first.id)],
                      [to |-> b, event |-> MatchedLine(second, first, first.id)]>>
                    \o (IF a \in Here /\ b \notin Here THEN <<[to |-> a, event |-> over]>> ELSE <<>>)
                    \o (IF a \notin Here /\ b \in Here THEN <<[to |-> b, event |-> over]>> ELSE <<>>)
       IN /\ Is(Fate(tells[1]))
          /\ owed' = Fates(Tail(tells))
          /\ Queues(tells, inbox, order)
    /\ pairs' = Tail(pairs) /\ just' = None
    /\ UNCHANGED <<session, joins, asked, pool, door, more, here, due, wanted, draining>>

Pairs(ticket, place, others, keep) ==   \* place: of the ticket among the others, by how long they have waited
    LET found == {i \in 1..Len(others) : FitsAsSaid(ticket, others[i])}
        with(i) == IF i < place THEN <<others[i], ticket>> ELSE <<ticket, others[i]>>
    IN IF "pair" \notin DOMAIN Line
       THEN found = {} /\ pool' = keep /\ pairs' = pairs
       ELSE \E i \in found : /\ Line.pair = <<with(i)[1].id, with(i)[2].id>>
                             /\ pool' = Without(others, i) /\ pairs' = Append(pairs, with(i))
WithPair(record, may) == IF may /\ "pair" \in DOMAIN Line THEN record @@ [pair |-> Line.pair] ELSE record

Served ==
    /\ Read("served") /\ Quiet /\ wanted # <<>>
    /\ LET request == Line.request
           c == Head(wanted)
       IN /\ Head(asked[c]) = request @@ [t |-> request.type, id |-> request.room]
          /\ asked' = [asked EXCEPT ![c] = Tail(@)]
          /\ CASE request.type = "Enter" ->
                    LET ticket == [id |-> request.room, wish |-> request.wish, flexible |-> Takes(request.wish), away |-> FALSE]
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
    /\ wanted' = Tail(wanted) /\ just' = None
    /\ UNCHANGED <<session, joins, inbox, door, more, here, owed, due, order, draining>>

Widened ==   \* the strict ticket that has waited longest becomes flexible
    /\ Read("widened") /\ Quiet
    /\ LET strict == {i \in 1..Len(pool) : ~pool[i].flexible /\ ~pool[i].away}
           i == First(strict)
           ticket == [pool[i] EXCEPT !.flexible = TRUE]
       IN /\ strict # {}
          /\ Pairs(ticket, i, Without(pool, i), [pool EXCEPT ![i] = ticket])
          /\ Is(WithPair([what |-> "widened", room |-> ticket.id, waiting |-> Len(pool')], TRUE))
    /\ just' = None
    /\ UNCHANGED <<session, joins, asked, inbox, door, more, here, owed, due, order, wanted, draining>>

Draining ==
    /\ Read("draining") /\ Quiet /\ ~draining /\ draining' = TRUE /\ next > 1
    /\ Is([what |-> "draining"])
    /\ LET names == [k \in 1..here |-> "s" \o ToString(k)]
           present == SelectSeq(names, LAMBDA c : c \in Here)
           tells == [k \in 1..Len(present) |-> [to |-> present[k], event |-> Forced(4000)]]
       IN owed' = Fates(tells) /\ Queues(tells, inbox, order)
    /\ just' = None
    /\ UNCHANGED <<session, joins, asked, pool, door, more, here, due, wanted, pairs>>

Ended ==
    /\ Read("end") /\ Quiet /\ Is([what |-> "end", drained |-> draining] @@ Settings)
    /\ Here = {} /\ next = Len(Traces[tr])
    /\ PrintT(<<"accepted", tr>>)
    /\ UNCHANGED <<session, joins, asked, pool, inbox, door, more, here, owed, due, order, just, wanted, pairs, draining>>

---------------------------------------------------------------------------

TraceInit ==   \* as Init, but nobody is there before it is attached
    /\ tr \in (IF Forks = <<>> THEN 1..Len(Traces) ELSE {1}) /\ next = 1 /\ here = 0 /\ draining = FALSE
    /\ owed = <<>> /\ due = None /\ order = <<>> /\ just = None /\ wanted = <<>> /\ pairs = <<>>
    /\ session = [c \in Clients |-> Connected] /\ joins = [c \in Clients |-> 0]
    /\ asked = [c \in Clients |-> <<>>] /\ pool = <<>> /\ inbox = [c \in Clients |-> <<>>]
    /\ door = [c \in Clients |-> "detached"] /\ ear = [c \in Clients |-> <<"idle", None>>]
    /\ more = [c \in Clients |-> Stranger]
Branch ==   \* Forks[k]: numbers of traces that are trace 1 up to its line k; so what they share is looked at once
    /\ tr = 1 /\ next <= Len(Forks)
    /\ tr' \in Forks[next]
    /\ UNCHANGED <<vars, next, more, here, owed, due, order, just, wanted, pairs, draining>>

TraceNext == \/ Branch \/ Begin \/ Owed \/ Attached \/ Received \/ Stepped \/ Replaced \/ Missed
             \/ Introduced \/ Served \/ Widened \/ Draining \/ Ended

(* As WaitingIsKnown: whoever waits may also have left the pool, and be about to hear of it. *)
WaitingIsTracked ==
    \A c \in Clients : IsWaiting(c) =>
        LET id == session[c].room IN
        \/ InPool(id) \/ IsAsked(c, "Enter", id) \/ HasMatch(c, id)
        \/ \E k \in 1..Len(pairs) : id \in {pairs[k][1].id, pairs[k][2].id}
=============================================================================
