--------------------------- MODULE TraceSignaling ---------------------------
(* Is what a server wrote with --trace a behaviour of Signaling?                                                   *)
(*                                                                                                                 *)
(* How to read this: after Signaling.tla, which begins with how to read TLA+, and with ../trace.md at hand, which  *)
(* tells the lines. Here a line is a record, `line.session` its field; [line] @@ [more] has the fields of both.    *)
(* traces.py writes the module TraceData: Traces[k] is trace number k, line by line, each with the lines that tell *)
(* what became of the events it sent, `puts`. A room s1/2 is <<"s1", 2>>, the second wait of s1, as in Signaling.  *)
(*                                                                                                                 *)
(* Every action is one line: Fits the line? Then these are the variables afterwards. So each trace is one chain of *)
(* states; it is accepted if the chain comes to its line `end`, and then its number is printed.                    *)
(*                                                                                                                 *)
(* What a session does is React, Signaling's own, and every step leads where its row of the session table says.    *)
(* What Signaling leaves out is added here, in `more` of each client: the legacy profile, close codes and reasons, *)
(* what is counted, candidates, and how a link is lent. To React a candidate that passes is a chat, as `typing` is,*)
(* and every way to close is ConnectionClosed; the Mistakes are none.                                                      *)
(*                                                                                                                 *)
(* Left out: which of several fitting tickets the matchmaker prefers, and lines that tell of a bug.                *)
EXTENDS Signaling, TLC, TraceData

VARIABLES
    tr,        \* which trace this is
    at,        \* how many of its lines have been read
    next,      \* where in Traces[tr] the next is
    more,      \* of each client: what Signaling does not know of its session
    here,      \* how many sessions have come so far: s1, s2, ... in this order
    due,       \* what has to come next: <<"words", client, event>>: the client just said it, and its session takes it;
               \* <<"answer", client>>: it asked to resume, and is told whether its link is lent ("refusal": that it is not);
               \* <<"lent", client>>; or None
    draining   \* the server is going away

Range(list) == {list[k] : k \in 1..Len(list)}
RECURSIVE Concat(_)
Concat(lists) == IF lists = <<>> THEN <<>> ELSE Head(lists) \o Concat(Tail(lists))

(* What holds its usual value is not told. *)
Brief(record, usual) == [f \in {f \in DOMAIN record : record[f] # usual[f]} |-> record[f]]
Perhaps(list, record) == IF list = <<>> THEN [f \in {} |-> None] ELSE record

Stranger == [profile |-> None, fresh |-> TRUE, silent |-> FALSE, last |-> None,
             invalid |-> 0, rate_limited |-> 0, heard |-> 0, told |-> 0, code |-> None,
             own |-> None, mine |-> {}, theirs |-> {}, peer |-> {}, refused |-> <<>>, held |-> <<>>,
             hold |-> None, signals |-> <<>>, answers_only |-> FALSE, failing |-> FALSE]
(* fresh: nothing has happened yet. silent: nothing was said yet. last: the last partner. heard, told: how much    *)
(* the client has said (but for `resume`) and was told. own, peer: ICE generations of the last finished exchange;  *)
(* mine, theirs: of the pending offer; refused: void ones. held: candidates whose description has not come.        *)
(* hold, signals, answers_only: see Release. failing: the client says that media failed, and not yet that they flow.*)

Line == Traces[tr][next]
Settings == [f \in {"format", "inbox", "relaxes", "resumes", "relay_only"} |-> Traces[tr][1][f]]
Capacity == Settings.inbox   \* how many events fit into an inbox

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
                 [] tell.event.t = "PeerSaid" -> [type |-> "PeerSaid", room |-> tell.event.room, kind |-> e.type] @@ Ice(e)
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
      [] e.type = "PeerSaid" -> PeerSaid(e.room, s.partner, IF e.kind \in {"candidate", "typing"} THEN "chat" ELSE e.kind)
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
                      event |-> [type |-> "PeerSaid", room |-> s.room, kind |-> "candidate"] @@ followers[k]]
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
(* Links that are lost, and lent by a session that asked to resume another *)

LoseLink(c, s, x, e) ==
    CASE s.st = "closed" \/ s.away -> Doing(s, x)
      [] s.st # "closed" /\ ~s.away /\ (~Settings.resumes \/ x.profile = "legacy" \/ (s.st = "connected" /\ x.silent)) ->
            End(c, s, x, e)
      [] OTHER -> ByModel(c, s, x, e)
Regained(c, s, x, e) ==
    [ByModel(c, s, x, e) EXCEPT !.says = <<[type |-> "resumed", session |-> c, heard |-> e.heard]>>]
AskToResume(c, s, x, e) ==
    IF s.st = "connected" THEN [Doing(s, x) EXCEPT !.due = <<"answer", c>>] ELSE WrongState(s, x, e)
Lend(c, s, x) == [Doing(Closed, x) EXCEPT !.due = <<"lent", c>>]

(* In an inbox, such a link; unread: what it has told already *)
Loan(unread) == [t |-> "Loan", type |-> "Loan", unread |-> unread]
LoanFirst(c) == inbox[c] # <<>> /\ Head(inbox[c]).t = "Loan"
ButALoan(c) == IF LoanFirst(c) THEN Tail(inbox[c]) ELSE inbox[c]   \* who is closed gives it back

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
         [] t = "PeerSaid" -> Hear2(c, s, x, e)
         [] t = "resume" -> AskToResume(c, s, x, e)
         [] t = "ResumeRefused" -> Says(s, x, <<Error("resume_failed", "resume", FALSE)>>)
         [] t = "Superseded" -> Lend(c, s, x)
         [] t = "ConnectionLost" -> LoseLink(c, s, x, e)
         [] t = "SessionResumed" -> Regained(c, s, x, e)
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
    [n |-> Line.n, what |-> "step", session |-> c, from |-> from, event |-> e, puts |-> Line.puts,
     before |-> Shown(s, x), after |-> Shown(done.s, done.x)]
    @@ Perhaps(done.says, [says |-> done.says]) @@ Perhaps(done.tells, [tells |-> done.tells])
    @@ Perhaps(done.asks, [asks |-> done.asks]) @@ Perhaps(done.counts, [counts |-> done.counts])
    @@ Perhaps(done.closes, [closes |-> done.closes[1]])

---------------------------------------------------------------------------
(* What became of events that were sent: `puts` must tell of just these, in this order *)

Here == {c \in Clients : door[c] # "detached"}
AsTold(e) == e @@ [t |-> e.type]   \* in an inbox an event has Signaling's `t` too
Put(put, to, event, boxes, doors) ==
    LET length == Len(boxes[to])
        told == put = [n |-> put.n, what |-> "told", to |-> to, event |-> event]
        lost(why) == put = [n |-> put.n, what |-> "lost", to |-> to, by |-> "server", why |-> why]
        as(ok, box, gate) == [ok |-> ok, inbox |-> box, door |-> gate]
    IN CASE put.what = "told" ->   \* one more than fit: a waiting session is handed what comes first
              as(told /\ doors[to] # "detached" /\ length <= Capacity, [boxes EXCEPT ![to] = Append(@, AsTold(event))], doors)
         [] put.what = "lost" ->   \* one less than fit: what the client said lies there too
              as((lost("gone") /\ doors[to] = "detached")
                    \/ (lost("full") /\ doors[to] # "detached" /\ length + 1 >= Capacity),
                 boxes, IF doors[to] = "detached" THEN doors ELSE [doors EXCEPT ![to] = "overflowed"])
RECURSIVE PutAll(_, _, _, _)
PutAll(puts, tells, boxes, doors) ==
    IF puts = <<>> \/ tells = <<>> THEN [ok |-> puts = tells, inbox |-> boxes, door |-> doors]
    ELSE LET one == Put(Head(puts), Head(tells).to, Head(tells).event, boxes, doors)
         IN IF one.ok THEN PutAll(Tail(puts), Tail(tells), one.inbox, one.door) ELSE one

Sends(tells, boxes, doors) ==
    LET all == PutAll(Line.puts, tells, boxes, doors) IN all.ok /\ inbox' = all.inbox /\ door' = all.door

(* Lines are numbered from 1 on. *)
Read(what) ==
    /\ next <= Len(Traces[tr]) /\ Line.what = what /\ Line.n = at + 1
    /\ \A k \in 1..Len(Line.puts) : Line.puts[k].n = Line.n + k
    /\ next' = next + 1 /\ at' = Line.n + Len(Line.puts) /\ tr' = tr /\ ear' = ear
Is(record) == Line = [n |-> Line.n, what |-> Line.what, puts |-> <<>>] @@ record
IsWithPuts(record) == Line = [n |-> Line.n, what |-> Line.what, puts |-> Line.puts] @@ record
Quiet == due = None /\ UNCHANGED due   \* what has to come next comes before anything else happens

---------------------------------------------------------------------------
(* The lines *)

Begin ==
    /\ Read("begin") /\ next = 1 /\ Is(Settings) /\ Settings.format = 2
    /\ UNCHANGED <<session, joins, asked, pool, inbox, door, more, here, due, draining>>

Attached ==
    /\ Read("attached") /\ Quiet /\ next > 1
    /\ LET c == "s" \o ToString(here + 1) IN
       /\ Line.profile \in {"v1", "legacy"} /\ Is([session |-> c, profile |-> Line.profile])
       /\ more' = [more EXCEPT ![c] = [Stranger EXCEPT !.profile = Line.profile]]
       /\ door' = [door EXCEPT ![c] = "open"]
    /\ here' = here + 1
    /\ UNCHANGED <<session, joins, asked, pool, inbox, draining>>

Heard ==
    /\ Read("heard") /\ due = None
    /\ LET c == Line.session IN
       /\ c \in Here /\ ~IsClosed(c) /\ ~session[c].away /\ ~more[c].fresh /\ Line.event.type \in FromClient
       /\ Is([session |-> c, event |-> Line.event])
       /\ due' = <<"words", c, Line.event>>
       /\ more' = [more EXCEPT ![c].heard = @ + (IF Line.event.type = "resume" THEN 0 ELSE 1)]
    /\ UNCHANGED <<session, joins, asked, pool, inbox, door, here, draining>>

Own(c, e) ==   \* what a driver tells its session by itself, and when it may
    LET s == session[c] IN
    CASE more[c].fresh -> due = None /\ e = [type |-> "ConnectionOpened"]
      [] ~more[c].fresh /\ due = <<"answer", c>> -> e \in {[type |-> "Superseded"], [type |-> "ResumeRefused"]}
      [] ~more[c].fresh /\ due = <<"refusal", c>> -> e = [type |-> "ResumeRefused"]
      [] ~more[c].fresh /\ due = None ->
         \/ /\ e = [type |-> "DeadlinePassed"]
            /\ \/ s.st = "connected" /\ more[c].silent
               \/ s.st = "paired"
               \/ s.st = "negotiating" /\ more[c].failing
         \/ e = [type |-> "DeadlinePassed", gives_up |-> TRUE] /\ s.away
         \/ e = [type |-> "ConnectionClosed"] /\ s.st # "closed"
         \/ e = Forced(4001) /\ s.st # "closed"
         \/ e = Forced(4000) /\ s.st # "closed" /\ draining
         \/ e = Forced(4507) /\ s.st # "closed" /\ Settings.resumes /\ more[c].profile = "v1" /\ more[c].heard = 0
         \/ e = Forced(4505) /\ s.st # "closed" /\ LoanFirst(c)   \* too much was missed to go on over that link
         \/ e = [type |-> "SessionResumed", heard |-> more[c].heard] /\ s.st # "closed" /\ LoanFirst(c)
      [] OTHER -> FALSE

Unread(c, from, e) ==   \* the inbox, when this has been taken
    CASE from = "inbox" -> Tail(IF IsClosed(c) THEN ButALoan(c) ELSE inbox[c])
      [] from = "driver" /\ e.type = "SessionResumed" -> Head(inbox[c]).unread \o Tail(inbox[c])
      [] from = "driver" /\ e = Forced(4505) -> Tail(inbox[c])
      [] OTHER -> inbox[c]

Stepped ==
    /\ Read("step")
    /\ LET c == Line.session  e == Line.event IN
       /\ c \in Here
       /\ CASE Line.from = "client" -> due = <<"words", c, e>>
            [] Line.from = "inbox" ->
                 /\ due = None /\ ~more[c].fresh
                 /\ LET box == IF IsClosed(c) THEN ButALoan(c) ELSE inbox[c] IN box # <<>> /\ Head(box) = AsTold(e)
            [] Line.from = "driver" -> Own(c, e)
            [] OTHER -> FALSE
       /\ LET done == Act(c, session[c], more[c], e)
              boxes == [inbox EXCEPT ![c] = Unread(c, Line.from, e)]
              doors == IF done.s.st = "closed" THEN [door EXCEPT ![c] = "open"] ELSE door
              enters == \E k \in 1..Len(done.asks) : done.asks[k].type = "Enter"
          IN /\ done.s.st \in MayLead(session[c].st, e.type)
             /\ Line = StepLine(c, Line.from, e, session[c], more[c], done)
             /\ Sends(done.tells, boxes, doors)
             /\ session' = [session EXCEPT ![c] = done.s]
             /\ due' = done.due
             /\ more' = [more EXCEPT ![c] = [done.x EXCEPT !.fresh = FALSE,   \* `resumed` is told to the lender's client
                            !.told = @ + Len(done.says) - (IF e.type = "SessionResumed" THEN 1 ELSE 0)]]
             /\ asked' = [asked EXCEPT ![c] = @ \o [k \in 1..Len(done.asks) |->
                            done.asks[k] @@ [t |-> done.asks[k].type, id |-> done.asks[k].room]]]
             /\ joins' = [joins EXCEPT ![c] = IF enters THEN @ + 1 ELSE @]
    /\ UNCHANGED <<pool, here, draining>>

TellsOfLink(e) == e.type \in {"ConnectionClosed", "ConnectionLost"} \/ (e.type = "ClosingForced" /\ e.code # 4000)
Asking == due # None /\ due[1] = "answer"   \* a session that is asked for and can't go on is told so, and closes
Replaces == due' = <<"refusal", due[2]>>
ToldByLink ==
    /\ Read("told") /\ TellsOfLink(Line.event) /\ (IF Line.event = Forced(4505) THEN Asking /\ Replaces ELSE Quiet)
    /\ LET c == Line.to IN
       /\ c \in Here /\ Is([to |-> c, event |-> Line.event])
       /\ Len(inbox[c]) <= Capacity
       /\ inbox' = [inbox EXCEPT ![c] = Append(@, AsTold(Line.event))]
    /\ UNCHANGED <<session, joins, asked, pool, door, more, here, draining>>
LostByLink ==
    /\ Read("lost") /\ (IF Asking THEN Replaces ELSE Quiet)
    /\ LET c == Line.to IN
       /\ c \in Here /\ Is([to |-> c, by |-> "link", why |-> "full"]) /\ Len(inbox[c]) + 1 >= Capacity
       /\ door' = [door EXCEPT ![c] = "overflowed"]
    /\ UNCHANGED <<session, joins, asked, pool, inbox, more, here, draining>>

Lent ==   \* the link goes into another session's inbox, with what it has told and nobody read
    /\ Read("lent") /\ due' = None
    /\ LET c == Line.session  d == Line.to
       IN /\ due = <<"lent", c>> /\ Is([session |-> c, to |-> d])
          /\ d \in Here \ {c} /\ ~IsClosed(d) /\ Settings.resumes /\ Len(inbox[d]) <= Capacity
          /\ inbox' = [inbox EXCEPT ![c] = SelectSeq(@, LAMBDA e : ~TellsOfLink(e)),
                                    ![d] = Append(@, Loan(SelectSeq(inbox[c], TellsOfLink)))]
    /\ UNCHANGED <<session, joins, asked, pool, door, more, here, draining>>

Detached ==
    /\ Read("detached") /\ Quiet
    /\ LET c == Line.session IN
       /\ c \in Here /\ IsClosed(c) /\ ButALoan(c) = <<>>
       /\ Is([session |-> c, code |-> more[c].code, told |-> more[c].told])
       /\ door' = [door EXCEPT ![c] = "detached"]
       /\ inbox' = [inbox EXCEPT ![c] = <<>>]
    /\ UNCHANGED <<session, joins, asked, pool, more, here, draining>>

(* The matchmaker. A ticket of a trace has the wish as it was said: a named room or None, and topics. *)
Takes(wish) == wish.topics = <<>> \/ wish.in # None \/ ~Settings.relaxes   \* ... anybody of its room, from the beginning
Share(x, y) == SelectSeq(x.wish.topics, LAMBDA topic : topic \in Range(y.wish.topics))
FitsAsSaid(x, y) == ~x.away /\ ~y.away /\ x.wish.in = y.wish.in /\ ((x.easy /\ y.easy) \/ Share(x, y) # <<>>)

MatchedLine(own, other, room) ==
    [type |-> "Matched", ticket |-> own.id, room |-> room, partner |-> Owner(other.id),
     profile |-> more[Owner(other.id)].profile, offerer |-> own.id = room, topics |-> Share(own, other)]
Introduced(first, second) ==   \* both are told; if one can't be reached, the other is told that it is over
    LET a == Owner(first.id)
        b == Owner(second.id)
        over == [type |-> "PeerLeft", room |-> first.id, reason |-> "peer_lost"]
        reached(k) == Line.puts[k].what = "told"
    IN /\ Len(Line.puts) >= 2
       /\ Sends(<<[to |-> a, event |-> MatchedLine(first, second, first.id)],
                  [to |-> b, event |-> MatchedLine(second, first, first.id)]>>
                \o (IF reached(1) /\ ~reached(2) THEN <<[to |-> a, event |-> over]>> ELSE <<>>)
                \o (IF ~reached(1) /\ reached(2) THEN <<[to |-> b, event |-> over]>> ELSE <<>>), inbox, door)
Pairs(ticket, place, others, keep) ==   \* place: of the ticket among the others, by how long they have waited
    LET found == {i \in 1..Len(others) : FitsAsSaid(ticket, others[i])}
        with(i) == IF i < place THEN <<others[i].id, ticket.id>> ELSE <<ticket.id, others[i].id>>
    IN IF "pair" \notin DOMAIN Line
       THEN found = {} /\ pool' = keep /\ Line.puts = <<>> /\ UNCHANGED <<inbox, door>>
       ELSE \E i \in found : /\ Line.pair = with(i) /\ pool' = Without(others, i)
                             /\ IF i < place THEN Introduced(others[i], ticket) ELSE Introduced(ticket, others[i])
WithPair(record) == IF "pair" \in DOMAIN Line THEN record @@ [pair |-> Line.pair] ELSE record

Served ==
    /\ Read("served") /\ Quiet
    /\ LET request == Line.request
           c == Owner(request.room)
       IN /\ c \in Clients /\ asked[c] # <<>>
          /\ Head(asked[c]) = request @@ [t |-> request.type, id |-> request.room]
          /\ asked' = [asked EXCEPT ![c] = Tail(@)]
          /\ CASE request.type = "Enter" ->
                    LET ticket == [id |-> request.room, wish |-> request.wish, easy |-> Takes(request.wish), away |-> FALSE]
                    IN Pairs(ticket, Len(pool) + 1, pool, Append(pool, ticket))
               [] request.type = "Withdraw" ->
                    /\ pool' = SelectSeq(pool, LAMBDA ticket : ticket.id # request.room)
                    /\ Line.puts = <<>> /\ UNCHANGED <<inbox, door>>
               [] request.type = "Suspend" ->
                    /\ pool' = [i \in 1..Len(pool) |-> [pool[i] EXCEPT !.away = @ \/ pool[i].id = request.room]]
                    /\ Line.puts = <<>> /\ UNCHANGED <<inbox, door>>
               [] request.type = "Reinstate" /\ ~Returning(request.room) ->
                    /\ Line.puts = <<>> /\ UNCHANGED <<pool, inbox, door>>
               [] request.type = "Reinstate" /\ Returning(request.room) ->
                    LET i == Place(request.room)
                        ticket == [pool[i] EXCEPT !.away = FALSE]
                    IN Pairs(ticket, i, Without(pool, i), [pool EXCEPT ![i] = ticket])
          /\ IsWithPuts(WithPair([request |-> request, waiting |-> Len(pool')]))
    /\ UNCHANGED <<session, joins, more, here, draining>>

Relaxed ==   \* the longest choosy wait
    /\ Read("relaxed") /\ Quiet
    /\ LET choosy == {i \in 1..Len(pool) : ~pool[i].easy /\ ~pool[i].away}
           i == First(choosy)
           ticket == [pool[i] EXCEPT !.easy = TRUE]
       IN /\ choosy # {}
          /\ Pairs(ticket, i, Without(pool, i), [pool EXCEPT ![i] = ticket])
          /\ IsWithPuts(WithPair([room |-> ticket.id, waiting |-> Len(pool')]))
    /\ UNCHANGED <<session, joins, asked, more, here, draining>>

Draining ==
    /\ Read("draining") /\ Quiet /\ ~draining /\ draining' = TRUE /\ next > 1
    /\ IsWithPuts([f \in {} |-> None])
    /\ LET names == [k \in 1..here |-> "s" \o ToString(k)]
           present == SelectSeq(names, LAMBDA c : c \in Here)
       IN Sends([k \in 1..Len(present) |-> [to |-> present[k], event |-> Forced(4000)]], inbox, door)
    /\ UNCHANGED <<session, joins, asked, pool, more, here>>

Ended ==
    /\ Read("end") /\ Quiet /\ Is(Settings @@ [drained |-> draining])
    /\ Here = {} /\ next = Len(Traces[tr])
    /\ PrintT(<<"accepted", tr>>)
    /\ UNCHANGED <<session, joins, asked, pool, inbox, door, more, here, draining>>

---------------------------------------------------------------------------

TraceInit ==   \* as Init, but nobody is there before it is attached
    /\ tr \in (IF Forks = <<>> THEN 1..Len(Traces) ELSE {1}) /\ at = 0 /\ next = 1 /\ here = 0 /\ due = None /\ draining = FALSE
    /\ session = [c \in Clients |-> Connected] /\ joins = [c \in Clients |-> 0]
    /\ asked = [c \in Clients |-> <<>>] /\ pool = <<>> /\ inbox = [c \in Clients |-> <<>>]
    /\ door = [c \in Clients |-> "detached"] /\ ear = [c \in Clients |-> <<"idle", None>>]
    /\ more = [c \in Clients |-> Stranger]
Branch ==   \* Forks[k]: numbers of traces that are trace 1 up to its line k; so what they share is looked at once
    /\ tr = 1 /\ next <= Len(Forks)
    /\ tr' \in Forks[next]
    /\ UNCHANGED <<vars, at, next, more, here, due, draining>>

TraceNext == \/ Branch \/ Begin \/ Attached \/ Heard \/ Stepped \/ ToldByLink \/ LostByLink \/ Lent \/ Detached \/ Served \/ Relaxed
             \/ Draining \/ Ended
=============================================================================
