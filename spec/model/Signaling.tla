------------------------------ MODULE Signaling ------------------------------
(* The server of curhat.v1: sessions, the pool, and everything that is in flight between them.                     *)
(*                                                                                                                 *)
(* How to read this if you know the protocol but not TLA+                                                          *)
(*   A state is a value for each VARIABLE. An action such as Take(c) says when a step may be taken and, with x',   *)
(*   what each variable is afterwards. `Next` is "any action may happen", so TLC, the checker, goes through every  *)
(*   order of events there is. An invariant is a sentence that must be true in every state that can be reached.    *)
(*   <<a, b>> is a sequence, [f |-> v] a record, [x EXCEPT ![c] = v] is x with x[c] replaced, /\ and, \/ or, ~     *)
(*   not, # unequal, @ the old value. `CASE p -> v [] q -> w` takes the first that holds (they exclude each other).*)
(*                                                                                                                 *)
(* Which rule a session follows, and where that may lead, is not written here: SessionTable (../generated) is drawn*)
(* from the TABLE that runs. The rules themselves are here.                                                        *)
(*                                                                                                                 *)
(* Names are the code's: React is `step` in protocol/session.py, SayOffer and HearOffer are in signaling.py,       *)
(* Introduce in policy/matching.py; Handle is what an endpoint's verbs do (protocol/endpoint.py).                  *)
(* Between two sessions this is the general case, as if each were on another node: what one tells the other waits  *)
(* in an inbox. dispatcher.py hands it over before anything else happens: one of the orders that there are here.   *)
(* One action is what happens at one place, or less: the model allows more orders than the code.                   *)
(*                                                                                                                 *)
(* The client says anything at any time (Say). So nothing would be gained by a queue from the client, and a queue  *)
(* to it is read by `ear`, which checks what the client is told. Clients.tla adds both queues, for clients that    *)
(* follow the protocol. README.md tells what else is left out.                                                     *)
EXTENDS Naturals, Sequences, FiniteSets, SessionTable

CONSTANTS
    Clients,    \* who may connect; each once
    None,       \* nobody, no room
    Joins,      \* how many waits each client may begin; wait number k of client c is <<c, k>>, and never used again
    AllJoins,   \* ... and how many all clients together
    InboxCap,   \* how many events fit into a session's inbox
    Wishes,     \* what a join may ask for: "any" partner, a "music" lover (a topic), the named room "den"
    Kinds,      \* what may be said to a partner: "offer", "answer", "chat" (candidates travel as chat does)
    Cuts,       \* how many connections each client may lose and get another for: its session waits meanwhile
    Mistake     \* "none", or the name of a mistake to make (run.py lists them)

VARIABLES
    session,    \* of each client: state, room (the ticket while waiting), partner, view of the negotiation, whether it
                \* is away (its connection was lost, and it may come back) and how many it has lost so far
    joins,      \* of each client: how many waits it has begun
    asked,      \* of each client: Enter and Withdraw on their way to the matchmaker, in order
    pool,       \* the tickets that wait, the longest first
    inbox,      \* of each client: what matchmaker and partner have told its session and it has not read yet
    door,       \* of each inbox: "open"; "overflowed": something did not fit, the session has to close; "detached"
    ear         \* of each client: what it has been told, as far as the next message is judged by it

vars == <<session, joins, asked, pool, inbox, door, ear>>

---------------------------------------------------------------------------
(* What there is *)

Connected == [st |-> "connected", room |-> None, wish |-> None, partner |-> None,
              polite |-> FALSE, view |-> "stable", described |-> FALSE, away |-> FALSE, cuts |-> 0]
Closed == [Connected EXCEPT !.st = "closed"]
Idle(s) == [Connected EXCEPT !.away = s.away, !.cuts = s.cuts]   \* who is away stays away, whatever ends meanwhile
Waiting(s, id, wish) == [Idle(s) EXCEPT !.st = "waiting", !.room = id, !.wish = wish]

Live(s) == s.st \in {"paired", "negotiating"}
IsClosed(c) == session[c].st = "closed"
IsWaiting(c) == session[c].st = "waiting"
Owner(room) == room[1]   \* a room has the id of the longer wait; its client is the offerer

(* flexible: may be matched with any flexible ticket of its room; away: suspended, keeps its place but is matched with nobody *)
Ticket(id, wish) == [id |-> id, wish |-> wish, flexible |-> wish # "music", away |-> FALSE]
Enter(id, wish) == [t |-> "Enter", id |-> id, wish |-> wish]
Withdraw(id) == [t |-> "Withdraw", id |-> id]
Suspend(id) == [t |-> "Suspend", id |-> id]
Reinstate(id) == [t |-> "Reinstate", id |-> id]

Matched(ticket, room, partner, offerer) ==
    [t |-> "Matched", ticket |-> ticket, room |-> room, partner |-> partner, offerer |-> offerer]
PeerSent(room, from, kind) == [t |-> "PeerSent", room |-> room, from |-> from, kind |-> kind]
PeerLeft(room) == [t |-> "PeerLeft", room |-> room]
PeerPresence(room, state) == [t |-> "PeerPresence", room |-> room, state |-> state]   \* "away", "back"

Init ==
    /\ session = [c \in Clients |-> Connected]
    /\ joins = [c \in Clients |-> 0]
    /\ asked = [c \in Clients |-> <<>>]
    /\ pool = <<>>
    /\ inbox = [c \in Clients |-> <<>>]
    /\ door = [c \in Clients |-> "open"]
    /\ ear = [c \in Clients |-> <<"idle", None>>]

---------------------------------------------------------------------------
(* session.py: one client, one event -> the new session, and what is to be done.                                   *)
(* says: to the client; tells: to the partner's inbox (none or one); asks: of the matchmaker (none or one)         *)

Step(s, says, tells, asks) == [s |-> s, says |-> says, tells |-> tells, asks |-> asks]
Nothing(s) == Step(s, <<>>, <<>>, <<>>)          \* ignored, or answered with an error: nothing changes
Refuse(s, what) == Step(s, <<[t |-> "error", ref |-> what]>>, <<>>, <<>>)

Ready(room) == [t |-> "ready", room |-> room]
Joined(room) == [t |-> "join", room |-> room]
Left(room, from) == [t |-> "leave", room |-> room, from |-> from]
Presence(state) == [t |-> "peer", state |-> state]
Relayed(said) == [t |-> "said", room |-> said.room, from |-> said.from, kind |-> said.kind]
To(partner, event) == <<[to |-> partner, event |-> event]>>

(* the client says *)

Join(s, fresh, wish) == Step(Waiting(s, fresh, wish), <<Ready(fresh)>>, <<>>, <<Enter(fresh, wish)>>)

LeaveWait(c, s) ==
    Step(Idle(s), <<Left(s.room, c)>>, <<>>, IF Mistake = "lazy_pool" THEN <<>> ELSE <<Withdraw(s.room)>>)

WalkAway(c, s) ==
    Step(Idle(s), IF Mistake = "no_echo" THEN <<>> ELSE <<Left(s.room, c)>>, To(s.partner, PeerLeft(s.room)), <<>>)

NextOne(c, s, fresh) ==
    LET id == IF Mistake = "ticket_reused" THEN s.room ELSE fresh
        left == WalkAway(c, s)
        wait == Join(left.s, id, s.wish)
    IN Step(wait.s, left.says \o wait.says, left.tells, wait.asks)

SayOffer(c, s) ==
    LET allowed ==
          CASE s.view = "local" -> FALSE                       \* one's own offer is pending
            [] s.view = "remote" -> ~s.polite                  \* they cross: the impolite one's survives
            [] s.view = "stable" -> ~s.polite \/ s.described \/ Mistake = "answerer_first"
    IN IF allowed
       THEN Step([s EXCEPT !.view = "local", !.st = "negotiating"],
                 <<>>, To(s.partner, PeerSent(s.room, c, "offer")), <<>>)
       ELSE Refuse(s, "offer")   \* in "remote" the code drops it in silence: the same to everybody else

SayAnswer(c, s) ==
    IF s.view = "remote"
    THEN Step([s EXCEPT !.view = "stable", !.described = TRUE],
              <<>>, To(s.partner, PeerSent(s.room, c, "answer")), <<>>)
    ELSE Refuse(s, "answer")

SayChat(c, s) == Step(s, <<>>, To(s.partner, PeerSent(s.room, c, "chat")), <<>>)

(* the others say *)

Decline(s, m) == IF Mistake = "no_decline" THEN Nothing(s) ELSE Step(s, <<>>, To(m.partner, PeerLeft(m.room)), <<>>)

Pair(s, m) ==
    IF m.ticket # s.room /\ Mistake # "old_ticket" THEN Decline(s, m)
    ELSE Step([s EXCEPT !.st = "paired", !.room = m.room, !.partner = m.partner, !.polite = ~m.offerer],
              (IF m.room # m.ticket THEN <<Ready(m.room)>> ELSE <<>>) \o <<Joined(m.room)>>,
              IF s.away /\ Mistake # "crossing_untold" THEN To(m.partner, PeerPresence(m.room, "away")) ELSE <<>>, <<>>)

HearOffer(s, m) ==
    LET dropped == \/ s.view = "local" /\ ~s.polite /\ Mistake # "impolite_yields"
                   \/ s.view = "local" /\ s.polite /\ Mistake = "polite_insists"
                   \/ s.view = "remote"
    IN IF dropped THEN Nothing(s)
       ELSE Step([s EXCEPT !.view = "remote", !.st = "negotiating"], <<Relayed(m)>>, <<>>, <<>>)

HearAnswer(s, m) ==
    IF s.view # "local" THEN Nothing(s)
    ELSE Step([s EXCEPT !.view = "stable", !.described = TRUE], <<Relayed(m)>>, <<>>, <<>>)

Hear(s, m) ==
    CASE m.room # s.room /\ Mistake # "said_anywhere" -> Nothing(s)   \* said in an earlier pairing
      [] OTHER -> CASE m.kind = "offer" -> HearOffer(s, m)
                    [] m.kind = "answer" -> HearAnswer(s, m)
                    [] m.kind = "chat" -> Step(s, <<Relayed(m)>>, <<>>, <<>>)

LosePartner(s, m, fresh) ==
    LET told == <<Left(s.room, s.partner)>> IN
    CASE m.room # s.room /\ Mistake # "left_anywhere" -> Nothing(s)   \* an earlier pairing's end
      [] OTHER -> CASE Mistake = "survivor_stays" -> Nothing(s)
                    [] Mistake = "requeued" -> Step(Waiting(s, fresh, s.wish), told \o <<Ready(fresh)>>, <<>>,
                                                    <<Enter(fresh, s.wish)>>)
                    [] OTHER -> Step(Idle(s), IF Mistake = "left_untold" THEN <<>> ELSE told, <<>>, <<>>)

GiveUpNegotiation(s) ==
    Step(Idle(s), <<Left(s.room, s.partner)>>,
         IF Mistake = "timeout_untold" THEN <<>> ELSE To(s.partner, PeerLeft(s.room)), <<>>)

Abandon(s) ==   \* the socket is lost, or has to be closed; in a shutdown the client hears `leave` on the way out
    Step(Closed, <<>>,
         IF Live(s) /\ Mistake # "lost_untold" /\ ~(s.away /\ Mistake = "given_up_untold")
         THEN To(s.partner, PeerLeft(s.room)) ELSE <<>>,
         IF s.st = "waiting" /\ Mistake # "lost_not_withdrawn" THEN <<Withdraw(s.room)>> ELSE <<>>)

(* a connection is lost, and another takes its place *)

NotePresence(s, m) ==
    IF m.room # s.room /\ Mistake # "presence_anywhere" THEN Nothing(s)   \* an earlier partner's
    ELSE Step(s, <<Presence(m.state)>>, <<>>, <<>>)

GoAway(s) ==
    Step([s EXCEPT !.away = TRUE, !.cuts = @ + 1], <<>>,
         IF Live(s) /\ Mistake # "presence_untold" THEN To(s.partner, PeerPresence(s.room, "away")) ELSE <<>>,
         IF s.st = "waiting" /\ Mistake # "suspend_forgotten" THEN <<Suspend(s.room)>> ELSE <<>>)

ComeBack(s) ==   \* who was not missed yet only changes connections
    IF ~s.away /\ Mistake # "resumed_twice" THEN Nothing(s)
    ELSE Step([s EXCEPT !.away = FALSE], <<>>,
              IF Live(s) /\ Mistake # "back_untold" THEN To(s.partner, PeerPresence(s.room, "back")) ELSE <<>>,
              IF s.st = "waiting" /\ Mistake # "reinstate_forgotten" THEN <<Reinstate(s.room)>> ELSE <<>>)

(* the rules, under the names that the table has for them *)
Follow(rule, c, s, e, fresh) ==
    CASE rule = "join" -> Join(s, fresh, e.wish)
      [] rule = "leave_wait" -> LeaveWait(c, s)
      [] rule = "leave_pairing" -> WalkAway(c, s)
      [] rule = "next_partner" -> NextOne(c, s, fresh)
      [] rule = "relay_signal" -> (CASE e.t = "offer" -> SayOffer(c, s) [] e.t = "answer" -> SayAnswer(c, s))
      [] rule = "relay_chat" -> SayChat(c, s)
      [] rule = "wrong_state" -> Refuse(s, e.t)
      [] rule = "pair" -> Pair(s, e)
      [] rule = "decline" -> Decline(s, e)
      [] rule = "relay_from_partner" -> Hear(s, e)
      [] rule = "partner_left" -> LosePartner(s, e, fresh)
      [] rule = "offer_timeout" -> GiveUpNegotiation(s)
      [] rule = "lose" -> Abandon(s)
      [] rule = "detach" -> GoAway(s)
      [] rule = "resume" -> ComeBack(s)
      [] rule = "partner_presence" -> NotePresence(s, e)
      [] rule = "ignore" -> Nothing(s)

(* which of them it is, and where it may lead, is told by the table; another way leads nowhere: StaysInTable finds it *)
Obey(before, event, step) ==
    IF step.s.st \in MayLead(before, event) \/ Mistake # "none" THEN step ELSE [step EXCEPT !.s.st = "nowhere"]

React(c, s, e, fresh, mayJoin) ==
    CASE e.t \in {"join", "next"} /\ ~mayJoin -> Refuse(s, e.t)   \* the world is only so large
      [] e.t = "join" /\ mayJoin /\ s.st # "closed" /\ Mistake = "join_again" -> Join(s, fresh, e.wish)
      [] e.t = "PeerLeft" /\ s.st = "connected" /\ Mistake = "left_twice" -> Step(s, <<Left(e.room, None)>>, <<>>, <<>>)
      [] OTHER -> Obey(s.st, e.t, Follow(RuleOf(s.st, e.t), c, s, e, fresh))

(* Rows of the table that no step of this model follows. If one changes, think again whether this is still so.     *)
Ignored == Row("ignore", {})
Refused == Row("wrong_state", {})
ASSUME \A st \in States \ {"closed"} :
    /\ Table[st].ClosingForced = Row("close_by_force", Table[st].ConnectionClosed.to)   \* every way of closing is Lose,
    /\ Table[st].InvalidMessage = Row("invalid_message", Table[st].ConnectionClosed.to)  \* ... the last straw too; another
    /\ Table[st].RateLimited = Row("rate_limit", Table[st].ConnectionClosed.to)           \*     is only complained of
    /\ Table[st].ConnectionLost = Row("detach", Table[st].ConnectionClosed.to)         \* who can't come back: Lose
    /\ Table[st].SessionSuperseded =                                                     \* it holds nothing: Lose
          IF st = "connected" THEN Row("supersede", {"closed"}) ELSE Ignored
    /\ Table[st].candidate = Row(RuleOf(st, "offer"), IF st = "paired" THEN {"negotiating"} ELSE {})
                                         \* it travels as chat does; an old page's first one may let an offer through
    /\ Table[st].typing = IF st \in {"paired", "negotiating"} THEN Row("relay_typing", {}) ELSE Refused    \* ... and typing
    /\ Table[st].ping = Row("pong", {})                                         \* nobody else hears of these
    /\ Table[st].ice = Row("refresh_ice", {})
    /\ Table[st].status = IF st = "negotiating" THEN Row("media_status", {}) ELSE Refused
    /\ Table[st].resume = IF st = "connected" THEN Row("find_session", {}) ELSE Refused
    /\ Table[st].ResumeRefused = IF st = "connected" THEN Row("refuse_resume", {}) ELSE Ignored
    /\ Table[st].ConnectionOpened = IF st = "connected" THEN Row("welcome", {}) ELSE Ignored
    /\ Table[st].DeadlinePassed =                                               \* closed: away for too long, Lose
          CASE st = "connected" -> Row("first_message_timeout", {"closed"})     \* ... or silence
            [] st = "waiting" -> Row("resume_timeout", {"closed"})
            [] st = "paired" -> Row("offer_timeout", {"negotiating", "connected", "closed"})
                                                                                \* negotiating: as candidate
            [] st = "negotiating" -> Row("media_timeout", {"connected", "closed"}) \* connected: to others as a leave
    /\ st \in {"paired", "negotiating"} => Table[st].Matched = Row("decline", {})   \* no ticket is in the pool
ASSUME \A event \in Sayings \cup Happenings :
    Table["closed"][event] = IF event = "Matched" THEN Row("decline", {}) ELSE Ignored

---------------------------------------------------------------------------
(* What the client is told, judged as it goes: ready before join, one leave for each join, nothing relayed but in  *)
(* between, and no wait that was not asked for; a partner is back after it was away, and says nothing meanwhile.   *)
(* <<"bad", why>> is for the invariant `ToldInOrder` to find.                                                      *)

Judge(e, m, wished) ==
    CASE e[1] = "bad" \/ m.t = "error" -> e
      [] e[1] # "bad" /\ m.t = "ready" ->
            IF e[1] = "ready" \/ (e[1] = "idle" /\ wished) THEN <<"ready", m.room>> ELSE <<"bad", "ready, unasked">>
      [] e[1] # "bad" /\ m.t = "join" ->
            IF e = <<"ready", m.room>> THEN <<"in", m.room>> ELSE <<"bad", "join without its ready">>
      [] e[1] # "bad" /\ m.t = "said" ->
            IF e = <<"in", m.room>> THEN e ELSE <<"bad", "relayed outside its pairing">>
      [] e[1] # "bad" /\ m.t = "leave" ->
            IF e \in {<<"in", m.room>>, <<"apart", m.room>>, <<"ready", m.room>>} THEN <<"idle", None>>
            ELSE <<"bad", "leave, once more">>
      [] e[1] # "bad" /\ m.t = "peer" ->
            CASE e[1] = "in" /\ m.state = "away" -> <<"apart", e[2]>>
              [] e[1] = "apart" /\ m.state = "back" -> <<"in", e[2]>>
              [] OTHER -> <<"bad", "away or back, out of turn">>

RECURSIVE Listen(_, _, _)
Listen(e, says, wished) == IF says = <<>> THEN e ELSE Listen(Judge(e, Head(says), wished), Tail(says), wished)

---------------------------------------------------------------------------
(* Hand an event over without waiting *)

Reaches(boxes, doors, to) ==
    (doors[to] = "open" \/ (doors[to] = "detached" /\ Mistake = "told_the_gone")) /\ Len(boxes[to]) < InboxCap
Tell(boxes, doors, to, event) ==
    CASE Reaches(boxes, doors, to) -> [inbox |-> [boxes EXCEPT ![to] = Append(@, event)], door |-> doors]
      [] doors[to] = "open" /\ ~Reaches(boxes, doors, to) /\ Mistake # "overflow_ignored" ->
            [inbox |-> boxes, door |-> [doors EXCEPT ![to] = "overflowed"]]
      [] OTHER -> [inbox |-> boxes, door |-> doors]

(* An endpoint steps its session, and its actions are performed *)

RECURSIVE Sum(_, _)
Sum(f, set) == IF set = {} THEN 0 ELSE LET x == CHOOSE x \in set : TRUE IN f[x] + Sum(f, set \ {x})
MayJoin(c) == joins[c] < Joins /\ Sum(joins, Clients) < AllJoins
Reaction(c, e) == React(c, session[c], e, <<c, joins[c] + 1>>, MayJoin(c))

Handle(c, e, boxes, doors) ==
    LET step == Reaction(c, e)
        told == IF step.tells = <<>> THEN [inbox |-> boxes, door |-> doors]
                ELSE Tell(boxes, doors, step.tells[1].to, step.tells[1].event)
        enters == step.asks # <<>> /\ step.asks[1].t = "Enter"
        heard == Listen(ear[c], step.says, e.t \in {"join", "next"})
    IN /\ session' = [session EXCEPT ![c] = step.s]
       /\ asked' = [asked EXCEPT ![c] = @ \o step.asks]
       /\ joins' = [joins EXCEPT ![c] = IF enters /\ step.asks[1].id = <<c, @ + 1>> THEN @ + 1 ELSE @]
       /\ inbox' = told.inbox
       /\ door' = told.door
       /\ ear' = [ear EXCEPT ![c] = IF step.s.st = "closed" /\ heard[1] # "bad" THEN <<"gone", None>> ELSE heard]
       /\ UNCHANGED pool

Say(c, e) == ~IsClosed(c) /\ ~session[c].away /\ Handle(c, e, inbox, door)   \* the client says it, allowed or not
SayJoin(c) == \E wish \in Wishes : Say(c, [t |-> "join", wish |-> wish])
SayLeave(c) == Say(c, [t |-> "leave"])
SayNext(c) == Say(c, [t |-> "next"])
SaySomething(c) == \E kind \in Kinds : Say(c, [t |-> kind])

Take(c) ==   \* the session reads its inbox; a closed one too, until it is detached (a match must be answered)
    /\ inbox[c] # <<>>
    /\ Handle(c, Head(inbox[c]), [inbox EXCEPT ![c] = Tail(@)], door)

Timeout(c) == session[c].st = "paired" /\ Handle(c, [t |-> "DeadlinePassed"], inbox, door)

Lose(c) ==   \* the socket is lost or has to be closed, for whatever reason, at any time; or has been lost for too long
    /\ ~IsClosed(c)
    /\ Handle(c, [t |-> "ConnectionClosed"], inbox, [door EXCEPT ![c] = "open"])

Interrupt(c) ==   \* the socket is lost without a goodbye
    /\ ~IsClosed(c) /\ ~session[c].away /\ session[c].cuts < Cuts
    /\ Handle(c, [t |-> "ConnectionLost"], inbox, door)

Regain(c) ==   \* the client is back over another; maybe before it was missed
    /\ Cuts > 0 /\ ~IsClosed(c)
    /\ Handle(c, [t |-> "SessionResumed"], inbox, door)

GiveUp(c) == session[c].away /\ Lose(c)   \* who does not come back is given up in the end
LoseOverflowed(c) == door[c] = "overflowed" /\ Lose(c)   \* ... and this must happen in the end

Detach(c) ==   \* nobody can reach the session any more; what it had not read is answered
    /\ IsClosed(c) /\ door[c] # "detached"
    /\ inbox[c] = <<>> \/ Mistake = "unread_forgotten"
    /\ door' = [door EXCEPT ![c] = "detached"]
    /\ inbox' = [inbox EXCEPT ![c] = <<>>]
    /\ UNCHANGED <<session, joins, asked, pool, ear>>

---------------------------------------------------------------------------
(* matchmaker.py and policy/matching.py *)

Fits(x, y) ==   \* both there; both in the named room or both not; both take anybody, or they share the topic
    /\ (~x.away /\ ~y.away) \/ Mistake = "suspended_matched"
    /\ (x.wish = "den") = (y.wish = "den") \/ Mistake = "rooms_mixed"
    /\ (x.flexible /\ y.flexible) \/ x.wish = y.wish
Fitting(ticket, others) == {i \in 1..Len(others) : Fits(ticket, others[i])}
Without(tickets, i) == SubSeq(tickets, 1, i - 1) \o SubSeq(tickets, i + 1, Len(tickets))
First(indexes) == CHOOSE i \in indexes : \A j \in indexes : i <= j

Introduce(first, second) ==   \* tell both in one step; if one can't be reached, tell the other that it is over
    LET a == Owner(first.id)
        b == Owner(second.id)
        room == first.id
        one == Tell(inbox, door, a, Matched(first.id, room, b, Mistake # "newcomer_offers"))
        reachedA == Reaches(inbox, door, a)
        two == Tell(one.inbox, one.door, b, Matched(second.id, room, a, Mistake \in {"both_offer", "newcomer_offers"}))
        reachedB == Reaches(one.inbox, one.door, b)
        three == CASE Mistake = "introduced_half" -> two
                   [] Mistake # "introduced_half" /\ reachedA /\ ~reachedB -> Tell(two.inbox, two.door, a, PeerLeft(room))
                   [] Mistake # "introduced_half" /\ ~reachedA /\ reachedB -> Tell(two.inbox, two.door, b, PeerLeft(room))
                   [] OTHER -> two
    IN inbox' = three.inbox /\ door' = three.door

Seek(tickets, i) ==   \* the ticket in place i leaves with another that fits, or stays: the longer wait comes first
    LET ticket == tickets[i]
        others == Without(tickets, i)
        found == Fitting(ticket, others)
    IN IF found = {}
       THEN pool' = tickets /\ UNCHANGED <<inbox, door>>
       ELSE \E j \in found :
            /\ pool' = IF Mistake = "pair_kept" THEN others ELSE Without(others, j)
            /\ IF j >= i THEN Introduce(ticket, others[j]) ELSE Introduce(others[j], ticket)

Place(id) == CHOOSE i \in 1..Len(pool) : pool[i].id = id
Returning(id) == \E i \in 1..Len(pool) : pool[i].id = id /\ pool[i].away

Serve(c) ==   \* the matchmaker takes one request
    /\ asked[c] # <<>>
    /\ asked' = [asked EXCEPT ![c] = Tail(@)]
    /\ LET request == Head(asked[c]) IN
       CASE request.t = "Enter" -> Seek(Append(pool, Ticket(request.id, request.wish)), Len(pool) + 1)
         [] request.t = "Withdraw" ->
              /\ pool' = SelectSeq(pool, LAMBDA ticket :
                            ticket.id # request.id \/ (ticket.away /\ Mistake = "suspended_kept"))
              /\ UNCHANGED <<inbox, door>>
         [] request.t = "Suspend" ->   \* what is not there has been matched already
              /\ pool' = [i \in 1..Len(pool) |-> [pool[i] EXCEPT !.away = @ \/ pool[i].id = request.id]]
              /\ UNCHANGED <<inbox, door>>
         [] request.t = "Reinstate" /\ ~Returning(request.id) -> UNCHANGED <<pool, inbox, door>>
         [] request.t = "Reinstate" /\ Returning(request.id) ->
              LET i == Place(request.id)
                  ticket == [pool[i] EXCEPT !.away = FALSE]
              IN  CASE Mistake = "place_lost" -> Seek(Append(Without(pool, i), ticket), Len(pool))
                    [] Mistake = "reinstated_unseen" -> pool' = [pool EXCEPT ![i] = ticket] /\ UNCHANGED <<inbox, door>>
                    [] OTHER -> Seek([pool EXCEPT ![i] = ticket], i)
    /\ UNCHANGED <<session, joins, ear>>

Widen ==   \* the strict ticket that has waited longest becomes flexible
    LET strict == {i \in 1..Len(pool) : ~pool[i].flexible /\ ~pool[i].away}
        i == First(strict)
        tickets == [pool EXCEPT ![i].flexible = TRUE]
    IN /\ strict # {}
       /\ IF Mistake = "widened_unseen" THEN pool' = tickets /\ UNCHANGED <<inbox, door>> ELSE Seek(tickets, i)
    /\ UNCHANGED <<session, joins, asked, ear>>

---------------------------------------------------------------------------

Next == \/ Widen
        \/ \E c \in Clients : \/ SayJoin(c) \/ SayLeave(c) \/ SayNext(c) \/ SaySomething(c)
                              \/ Take(c) \/ Timeout(c) \/ Lose(c) \/ Interrupt(c) \/ Regain(c) \/ Detach(c) \/ Serve(c)

Spec == Init /\ [][Next]_vars

(* What the server does not stop doing while there is something of it to do: it reads what it was told, serves      *)
(* what it was asked, closes what it must. Clients are sure of nothing.                                             *)
(* Each client begins but so many waits, so where Kinds = {} no run goes round for ever. Then the server does not   *)
(* stop just if in the end it has nothing to do, <>[]~Busy: the same as WF_vars(ServerStep), which takes TLC twice  *)
(* as long. BusyIsEnabled is the invariant that Busy tells when the server can take a step.                         *)
ServerStep == \/ Mistake # "never_widened" /\ Widen
              \/ \E c \in Clients : \/ Take(c) \/ Detach(c) \/ (Mistake # "unfair" /\ Serve(c))
                                    \/ (Mistake # "overflow_lingers" /\ LoseOverflowed(c))
                                    \/ (Mistake # "awaited_for_ever" /\ GiveUp(c))
Busy == \/ Mistake # "never_widened" /\ \E i \in 1..Len(pool) : ~pool[i].flexible /\ ~pool[i].away
        \/ \E c \in Clients : \/ inbox[c] # <<>>
                              \/ IsClosed(c) /\ door[c] # "detached"
                              \/ Mistake # "unfair" /\ asked[c] # <<>>
                              \/ Mistake # "overflow_lingers" /\ door[c] = "overflowed"
                              \/ Mistake # "awaited_for_ever" /\ session[c].away
BusyIsEnabled == Busy = ENABLED ServerStep
FairSpec == Spec /\ <>[]~Busy

---------------------------------------------------------------------------
(* Invariants. The numbers are those of the design's list. *)

(* 7. No step of a session leads elsewhere than its row of the table says. *)
StaysInTable == \A c \in Clients : session[c].st \in States

Rooms == Clients \X (1..Joins)
InPool(id) == \E i \in 1..Len(pool) : pool[i].id = id
IsAsked(c, t, id) == \E i \in 1..Len(asked[c]) : asked[c][i].t = t /\ asked[c][i].id = id
Has(c, t, room) == \E i \in 1..Len(inbox[c]) : inbox[c][i].t = t /\ inbox[c][i].room = room
HasMatch(c, ticket) == \E i \in 1..Len(inbox[c]) : inbox[c][i].t = "Matched" /\ inbox[c][i].ticket = ticket
MustClose(c) == door[c] = "overflowed"
Seat(c, room) == Live(session[c]) /\ session[c].room = room

(* 1. Nobody is paired with itself. A room has two seats at most, and if both are taken, by each other's partners. *)
Symmetric ==
    \A c \in Clients : Live(session[c]) =>
        LET p == session[c].partner  r == session[c].room IN
        /\ p # c
        /\ \A d \in Clients \ {c} : Seat(d, r) => d = p /\ session[d].partner = c

(* 1, 3. Sessions, inboxes and senders that have to do with a room belong to the same two clients. *)
TwoPerRoom ==
    \A r \in Rooms :
        Cardinality({c \in Clients :
            \/ Seat(c, r)
            \/ \E i \in 1..Len(inbox[c]) : inbox[c][i].room = r
            \/ \E d \in Clients : Seat(d, r) /\ session[d].partner = c
            \/ \E d \in Clients : \E i \in 1..Len(inbox[d]) :
                  inbox[d][i].room = r /\ (\/ inbox[d][i].t = "Matched" /\ inbox[d][i].partner = c
                                           \/ inbox[d][i].t = "PeerSent" /\ inbox[d][i].from = c)}) <= 2

(* 2. A ticket in the pool is its client's present wait, or is about to be withdrawn; nobody has two there. *)
PoolOnlyWaiting ==
    \A i \in 1..Len(pool) :
        LET id == pool[i].id  c == Owner(id) IN
        /\ (IsWaiting(c) /\ session[c].room = id) \/ IsAsked(c, "Withdraw", id)
        /\ \A j \in 1..Len(pool) : i # j => Owner(pool[j].id) # c

(* 2. Whoever waits is in the pool, or on the way into it or out of it: no wait is forgotten. *)
WaitingIsKnown ==
    \A c \in Clients : IsWaiting(c) =>
        LET id == session[c].room IN InPool(id) \/ IsAsked(c, "Enter", id) \/ HasMatch(c, id) \/ MustClose(c)

(* 2. Two who would fit never both stay. *)
NoPairLeftWaiting == \A i, j \in 1..Len(pool) : i # j => ~Fits(pool[i], pool[j])

(* 2. A named room pairs only with somebody who named the same one. *)
NamedRoomsApart ==
    \A c, d \in Clients : Live(session[c]) /\ Seat(d, session[c].room) =>
        (session[c].wish = "den") = (session[d].wish = "den")

(* 3, 4. What is in an inbox and will be accepted was said by the partner, in this pairing. *)
OnlyFromPartner ==
    \A c \in Clients : \A i \in 1..Len(inbox[c]) :
        LET m == inbox[c][i] IN
        m.t = "PeerSent" /\ Live(session[c]) /\ m.room = session[c].room => m.from = session[c].partner

(* 3, 4, 5. What each client is told makes sense (see Judge), and the server's state is what the client was told. *)
ToldInOrder == \A c \in Clients : ear[c][1] # "bad"
ToldTheState ==
    \A c \in Clients : LET s == session[c] IN
        CASE s.st = "connected" -> ear[c] = <<"idle", None>>
          [] s.st = "waiting" -> ear[c] = <<"ready", s.room>>
          [] Live(s) -> ear[c] \in {<<"in", s.room>>, <<"apart", s.room>>}
          [] s.st = "closed" -> ear[c] = <<"gone", None>>

(* 5. Whoever has read all that its partner's session told knows whether the partner is away. *)
PresenceKnown ==
    \A c, d \in Clients :
        LET r == session[c].room IN
        c # d /\ Live(session[c]) /\ Seat(d, r) /\ ~Has(d, "PeerPresence", r) /\ ~MustClose(d) =>
            (ear[d][1] = "apart") = session[c].away

(* 2. The ticket of somebody who is away is suspended, or about to be; that of anybody else is not, or about to be   *)
(* reinstated or withdrawn.                                                                                        *)
AwayIsSuspended ==
    \A i \in 1..Len(pool) :
        LET id == pool[i].id  c == Owner(id) IN
        IsWaiting(c) /\ session[c].room = id /\ session[c].away => pool[i].away \/ IsAsked(c, "Suspend", id)
SuspendedIsAway ==
    \A i \in 1..Len(pool) :
        LET id == pool[i].id  c == Owner(id) IN
        pool[i].away => session[c].away \/ IsAsked(c, "Reinstate", id) \/ IsAsked(c, "Withdraw", id)

(* 2. Once the matchmaker knows that somebody is away, it matches it with nobody. (Of a step, not of a state.) *)
AwayIsNotMatched ==
    [][\A c \in Clients :
          LET id == session[c].room IN
          (/\ IsWaiting(c) /\ session[c].away
           /\ ~IsAsked(c, "Enter", id) /\ ~IsAsked(c, "Suspend", id) /\ ~HasMatch(c, id))
              => ~HasMatch(c, id)']_vars

(* 2. Those who wait keep their order, whoever is away meanwhile. (Of a step.) *)
PlaceIsKept ==
    [][\A i, j \in 1..Len(pool) : \A k, m \in 1..Len(pool') :
          (i < j /\ pool'[k].id = pool[i].id /\ pool'[m].id = pool[j].id) => k < m]_vars

(* 5. Nobody is stranded: if my partner is not in my room, it is on its way there, or the end is on its way to me. *)
NotStranded ==
    \A c \in Clients : Live(session[c]) =>
        LET p == session[c].partner  r == session[c].room IN
        Seat(p, r) \/ Has(p, "Matched", r) \/ Has(c, "PeerLeft", r) \/ MustClose(c)

(* 6. When everybody is gone and all that was asked is served, nothing is left. *)
Drained == \A c \in Clients : IsClosed(c) /\ door[c] = "detached" /\ asked[c] = <<>>
NothingLeft == Drained => pool = <<>> /\ \A c \in Clients : inbox[c] = <<>>
DetachedIsEmpty == \A c \in Clients : door[c] = "detached" => IsClosed(c) /\ inbox[c] = <<>>

(* 8. The offerer is the owner of the room, so there is exactly one; both seats and both Matched agree on it. *)
OneOfferer ==
    \A c \in Clients :
        /\ Live(session[c]) => session[c].polite = (Owner(session[c].room) # c)
        /\ \A i \in 1..Len(inbox[c]) :
              inbox[c][i].t = "Matched" => inbox[c][i].offerer = (Owner(inbox[c][i].room) = c)

(* 8. The first offer is the offerer's. *)
FirstOfferByOfferer ==
    \A c \in Clients : Live(session[c]) /\ session[c].view = "local" => ~session[c].polite \/ session[c].described

(* 8. When nothing is in flight between two seats, no offer is pending or exactly one is, and both know whose. *)
Silent(c, r) == ~Has(c, "PeerSent", r) /\ ~Has(c, "PeerLeft", r) /\ ~MustClose(c)
ViewsAgree ==
    \A c, d \in Clients :
        (c # d /\ Live(session[c]) /\ Seat(d, session[c].room) /\ Silent(c, session[c].room) /\ Silent(d, session[c].room)) =>
            {session[c].view, session[d].view} \in {{"stable"}, {"local", "remote"}}

(* 8. An answer always finds the offer it answers, and an offer never meets one that the client has still to answer. *)
SignalsFit ==
    \A c \in Clients : inbox[c] # <<>> =>
        LET m == Head(inbox[c])  s == session[c] IN
        (m.t = "PeerSent" /\ Live(s) /\ m.room = s.room) =>
            /\ m.kind = "answer" => s.view = "local"
            /\ m.kind = "offer" => s.view # "remote"

TypeOK ==
    /\ \A c \in Clients :
          /\ session[c].st \in States
          /\ session[c].view \in {"stable", "local", "remote"}
          /\ (session[c].room = None) = (session[c].st \in {"connected", "closed"})
          /\ (session[c].partner = None) = ~Live(session[c])
          /\ session[c].view # "stable" => session[c].st = "negotiating"
          /\ session[c].away => ~IsClosed(c)
          /\ session[c].cuts \in 0..Cuts
          /\ joins[c] \in 0..Joins
          /\ Len(inbox[c]) <= InboxCap
          /\ door[c] \in {"open", "overflowed", "detached"}

---------------------------------------------------------------------------
(* What must come about in the end. P ~> Q: whenever P, then Q now or later. MClive.tla asks it of a, b; all are   *)
(* alike.                                                                                                          *)

(* Two who name the same room, or none, do not both wait for ever. *)
WaitersMeet(c, d) ==
    (IsWaiting(c) /\ IsWaiting(d) /\ (session[c].wish = "den") = (session[d].wish = "den"))
        ~> (~IsWaiting(c) \/ ~IsWaiting(d))

(* A closed session frees everything. *)
Freed(c) == IsClosed(c) /\ door[c] = "detached" /\ asked[c] = <<>> /\ \A k \in 1..Joins : ~InPool(<<c, k>>)
LostIsFreed(c) == IsClosed(c) ~> Freed(c)

(* Whoever sits in a room that the partner has left, or never comes to, is told so (or is closed). *)
Abandoned(c) ==
    LET p == session[c].partner  r == session[c].room IN Live(session[c]) /\ ~Seat(p, r) /\ ~Has(p, "Matched", r)
AbandonedIsTold(c) == Abandoned(c) ~> ~Live(session[c]) \/ ~Abandoned(c)

(* Who is away comes back or is given up, and so nobody is left with a partner who is away. *)
AwayIsSettled(c) == session[c].away ~> ~session[c].away
ApartEnds(c) == ear[c][1] = "apart" ~> ear[c][1] # "apart"

(* What did not fit into an inbox closes its session. *)
OverflowCloses(c) == MustClose(c) ~> IsClosed(c)
=============================================================================
