------------------------------ MODULE Signaling ------------------------------
(* The server of curhat.v1: sessions, the pool, and everything that is in flight between them.                     *)
(*                                                                                                                 *)
(* How to read this if you know the protocol but not TLA+                                                          *)
(*   A state is a value for each VARIABLE. An action such as Take(c) says when a step may be taken and, with x',   *)
(*   what each variable is afterwards. `Next` is "any action may happen", so TLC, the checker, goes through every  *)
(*   order of events there is. An invariant is a sentence that must be true in every state that can be reached.    *)
(*   <<a, b>> is a sequence, [f |-> v] a record, [x EXCEPT ![c] = v] is x with x[c] replaced, /\ and, \/ or, ~     *)
(*   not, # unequal, @ the old value. `CASE p -> v [] q -> w` takes the first that holds (they exclude each other). *)
(*                                                                                                                 *)
(* Which rule a session follows, and where that may lead, is not written here: SessionTable (../generated) is      *)
(* generated from the TABLE that runs. The rules themselves are here.                                              *)
(*                                                                                                                 *)
(* Names are the code's: React is `step` in protocol/session.py; OfferFromClient and OfferFromPartner are in       *)
(* signaling.py, in receive_from_client and receive_from_partner; Introduce is in policy/matching.py; Handle is    *)
(* what the methods of an endpoint do (protocol/endpoint.py). Between two sessions this is the general case, as if *)
(* each were on another node: what one forwards waits in an inbox. dispatcher.py hands it over before anything     *)
(* else happens: one of the orders that there are here. One action is what happens at one place, or less: the      *)
(* model allows more orders than the code.                                                                         *)
(*                                                                                                                 *)
(* The client sends anything at any time (Receive). So nothing would be gained by a queue from the client, and one *)
(* to it is replaced by `monitor`, which checks what the client is sent. Clients.tla adds both queues, for clients *)
(* that follow the protocol. README.md lists what else is left out.                                                *)
EXTENDS Naturals, Sequences, FiniteSets, SessionTable

CONSTANTS
    Clients,    \* who may connect; each once
    None,       \* nobody, no room
    Joins,      \* how many waits each client may begin; wait number k of client c is <<c, k>>, and never used again
    AllJoins,   \* ... and how many all clients together
    InboxCap,   \* how many events fit into a session's inbox
    Wishes,     \* what a join may ask for: "any" partner, a "music" lover (a topic), the named room "den"
    Kinds,      \* what may be sent to a partner: "offer", "answer", "chat" (candidates travel as chat does)
    Cuts,       \* how many connections each client may lose and get another for: its session waits meanwhile
    Mistake     \* "none", or the name of a mistake to make (run.py lists them)

VARIABLES
    session,    \* of each client: state, room (the ticket while waiting), partner, view of the negotiation, whether it
                \* is away (its connection was lost, and it may come back) and how many it has lost so far
    joins,      \* of each client: how many waits it has begun
    requested,  \* of each client: Enter and Withdraw on their way to the matchmaker, in order
    pool,       \* the tickets that wait, the longest first
    inbox,      \* of each client: the events from matchmaker and partner that its session has not handled yet
    inboxStatus,\* of each inbox: "open"; "overflowed": something did not fit, the session has to close; "detached"
    monitor     \* of each client: what it has been sent, as far as the next message depends on it

vars == <<session, joins, requested, pool, inbox, inboxStatus, monitor>>

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
    /\ requested = [c \in Clients |-> <<>>]
    /\ pool = <<>>
    /\ inbox = [c \in Clients |-> <<>>]
    /\ inboxStatus = [c \in Clients |-> "open"]
    /\ monitor = [c \in Clients |-> <<"idle", None>>]

---------------------------------------------------------------------------
(* session.py: one client, one event -> the new session, and what is to be done.                                   *)
(* sends: to the client; forwards: to the partner's inbox (none or one); requests: to the matchmaker (none or one) *)

Step(s, sends, forwards, requests) == [s |-> s, sends |-> sends, forwards |-> forwards, requests |-> requests]
Nothing(s) == Step(s, <<>>, <<>>, <<>>)          \* ignored, or answered with an error: nothing changes
Refuse(s, what) == Step(s, <<[t |-> "error", ref |-> what]>>, <<>>, <<>>)

Ready(room) == [t |-> "ready", room |-> room]
Joined(room) == [t |-> "join", room |-> room]
Left(room, from) == [t |-> "leave", room |-> room, from |-> from]
Presence(room, from, state) == [t |-> "peer", room |-> room, from |-> from, state |-> state]
Relayed(m) == [t |-> "relayed", room |-> m.room, from |-> m.from, kind |-> m.kind]
To(partner, event) == <<[to |-> partner, event |-> event]>>

(* messages from the client *)

Join(s, fresh, wish) == Step(Waiting(s, fresh, wish), <<Ready(fresh)>>, <<>>, <<Enter(fresh, wish)>>)

LeaveWait(c, s) ==
    Step(Idle(s), <<Left(s.room, c)>>, <<>>, IF Mistake = "lazy_pool" THEN <<>> ELSE <<Withdraw(s.room)>>)

LeavePairing(c, s) ==
    Step(Idle(s), IF Mistake = "no_echo" THEN <<>> ELSE <<Left(s.room, c)>>, To(s.partner, PeerLeft(s.room)), <<>>)

NextPartner(c, s, fresh) ==
    LET id == IF Mistake = "ticket_reused" THEN s.room ELSE fresh
        left == LeavePairing(c, s)
        wait == Join(left.s, id, s.wish)
    IN Step(wait.s, left.sends \o wait.sends, left.forwards, wait.requests)

OfferFromClient(c, s) ==
    LET allowed ==
          CASE s.view = "local" -> FALSE                       \* one's own offer is pending
            [] s.view = "remote" -> ~s.polite                  \* they cross: the impolite one's survives
            [] s.view = "stable" -> ~s.polite \/ s.described \/ Mistake = "answerer_first"
    IN IF allowed
       THEN Step([s EXCEPT !.view = "local", !.st = "negotiating"],
                 <<>>, To(s.partner, PeerSent(s.room, c, "offer")), <<>>)
       ELSE Refuse(s, "offer")   \* in "remote" the code drops it in silence: the same to everybody else

AnswerFromClient(c, s) ==
    IF s.view = "remote"
    THEN Step([s EXCEPT !.view = "stable", !.described = TRUE],
              <<>>, To(s.partner, PeerSent(s.room, c, "answer")), <<>>)
    ELSE Refuse(s, "answer")

ChatFromClient(c, s) == Step(s, <<>>, To(s.partner, PeerSent(s.room, c, "chat")), <<>>)

(* events from the matchmaker and the partner *)

Decline(s, m) == IF Mistake = "no_decline" THEN Nothing(s) ELSE Step(s, <<>>, To(m.partner, PeerLeft(m.room)), <<>>)

Pair(s, m) ==
    IF m.ticket # s.room /\ Mistake # "old_ticket" THEN Decline(s, m)
    ELSE Step([s EXCEPT !.st = "paired", !.room = m.room, !.partner = m.partner, !.polite = ~m.offerer],
              (IF m.room # m.ticket THEN <<Ready(m.room)>> ELSE <<>>) \o <<Joined(m.room)>>,
              IF s.away /\ Mistake # "crossing_unreported" THEN To(m.partner, PeerPresence(m.room, "away")) ELSE <<>>, <<>>)

OfferFromPartner(s, m) ==
    LET dropped == \/ s.view = "local" /\ ~s.polite /\ Mistake # "impolite_yields"
                   \/ s.view = "local" /\ s.polite /\ Mistake = "polite_insists"
                   \/ s.view = "remote"
    IN IF dropped THEN Nothing(s)
       ELSE Step([s EXCEPT !.view = "remote", !.st = "negotiating"], <<Relayed(m)>>, <<>>, <<>>)

AnswerFromPartner(s, m) ==
    IF s.view # "local" THEN Nothing(s)
    ELSE Step([s EXCEPT !.view = "stable", !.described = TRUE], <<Relayed(m)>>, <<>>, <<>>)

RelayFromPartner(s, m) ==
    CASE m.room # s.room /\ Mistake # "relayed_anywhere" -> Nothing(s)   \* sent in an earlier pairing
      [] OTHER -> CASE m.kind = "offer" -> OfferFromPartner(s, m)
                    [] m.kind = "answer" -> AnswerFromPartner(s, m)
                    [] m.kind = "chat" -> Step(s, <<Relayed(m)>>, <<>>, <<>>)

PartnerLeft(s, m, fresh) ==
    LET left == <<Left(s.room, s.partner)>> IN
    CASE m.room # s.room /\ Mistake # "left_anywhere" -> Nothing(s)   \* an earlier pairing's end
      [] OTHER -> CASE Mistake = "survivor_stays" -> Nothing(s)
                    [] Mistake = "requeued" -> Step(Waiting(s, fresh, s.wish), left \o <<Ready(fresh)>>, <<>>,
                                                    <<Enter(fresh, s.wish)>>)
                    [] OTHER -> Step(Idle(s), IF Mistake = "leave_unreported" THEN <<>> ELSE left, <<>>, <<>>)

EndPairing(s) ==
    Step(Idle(s), <<Left(s.room, s.partner)>>,
         IF Mistake = "timeout_unreported" THEN <<>> ELSE To(s.partner, PeerLeft(s.room)), <<>>)

CloseSession(s) ==   \* the socket is lost, or has to be closed; in a shutdown the client is sent `leave` before
    Step(Closed, <<>>,
         IF Live(s) /\ Mistake # "loss_unreported" /\ ~(s.away /\ Mistake = "timeout_while_away_unreported")
         THEN To(s.partner, PeerLeft(s.room)) ELSE <<>>,
         IF s.st = "waiting" /\ Mistake # "lost_not_withdrawn" THEN <<Withdraw(s.room)>> ELSE <<>>)

(* a connection is lost, and another takes its place *)

PartnerPresence(s, m) ==
    IF m.room # s.room /\ Mistake # "presence_anywhere" THEN Nothing(s)   \* an earlier partner's
    ELSE Step(s, <<Presence(s.room, s.partner, m.state)>>, <<>>, <<>>)

DetachSession(s) ==
    Step([s EXCEPT !.away = TRUE, !.cuts = @ + 1], <<>>,
         IF Live(s) /\ Mistake # "presence_unreported" THEN To(s.partner, PeerPresence(s.room, "away")) ELSE <<>>,
         IF s.st = "waiting" /\ Mistake # "suspend_forgotten" THEN <<Suspend(s.room)>> ELSE <<>>)

Reconnect(s) ==   \* who was not missed yet only changes connections
    IF ~s.away /\ Mistake # "resumed_twice" THEN Nothing(s)
    ELSE Step([s EXCEPT !.away = FALSE], <<>>,
              IF Live(s) /\ Mistake # "return_unreported" THEN To(s.partner, PeerPresence(s.room, "back")) ELSE <<>>,
              IF s.st = "waiting" /\ Mistake # "reinstate_forgotten" THEN <<Reinstate(s.room)>> ELSE <<>>)

(* the rules, under the names that the table has for them *)
Apply(rule, c, s, e, fresh) ==
    CASE rule = "join" -> Join(s, fresh, e.wish)
      [] rule = "leave_wait" -> LeaveWait(c, s)
      [] rule = "leave_pairing" -> LeavePairing(c, s)
      [] rule = "next_partner" -> NextPartner(c, s, fresh)
      [] rule = "relay_signal" -> (CASE e.t = "offer" -> OfferFromClient(c, s) [] e.t = "answer" -> AnswerFromClient(c, s))
      [] rule = "relay_chat" -> ChatFromClient(c, s)
      [] rule = "wrong_state" -> Refuse(s, e.t)
      [] rule = "pair" -> Pair(s, e)
      [] rule = "decline" -> Decline(s, e)
      [] rule = "relay_from_partner" -> RelayFromPartner(s, e)
      [] rule = "partner_left" -> PartnerLeft(s, e, fresh)
      [] rule = "offer_timeout" -> EndPairing(s)
      [] rule = "lose" -> CloseSession(s)
      [] rule = "detach" -> DetachSession(s)
      [] rule = "resume" -> Reconnect(s)
      [] rule = "partner_presence" -> PartnerPresence(s, e)
      [] rule = "ignore" -> Nothing(s)

(* which of them it is, and where it may lead, is in the table; another step leads nowhere: StaysInTable finds it  *)
CheckRow(before, event, step) ==
    IF step.s.st \in MayLead(before, event) \/ Mistake # "none" THEN step ELSE [step EXCEPT !.s.st = "nowhere"]

React(c, s, e, fresh, mayJoin) ==
    CASE e.t \in {"join", "next"} /\ ~mayJoin -> Refuse(s, e.t)   \* the world is only so large
      [] e.t = "join" /\ mayJoin /\ s.st # "closed" /\ Mistake = "join_again" -> Join(s, fresh, e.wish)
      [] e.t = "PeerLeft" /\ s.st = "connected" /\ Mistake = "left_twice" -> Step(s, <<Left(e.room, None)>>, <<>>, <<>>)
      [] OTHER -> CheckRow(s.st, e.t, Apply(RuleOf(s.st, e.t), c, s, e, fresh))

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
    /\ \A kind \in {"typing", "media"} :                                          \* ... and so do these
          Table[st][kind] = IF st \in {"paired", "negotiating"} THEN Row("relay_to_v1", {}) ELSE Refused
    /\ Table[st].ping = Row("pong", {})                                         \* nobody else is affected by these
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
ASSUME \A event \in Messages \cup OtherEvents :
    Table["closed"][event] = IF event = "Matched" THEN Row("decline", {}) ELSE Ignored

---------------------------------------------------------------------------
(* The monitor of what the client is sent: ready before join, one leave for each join, nothing relayed but in      *)
(* between, and no wait that was not asked for; a partner is back after it was away, and sends nothing meanwhile.  *)
(* <<"bad", why>> is for the invariant `SentInOrder` to find.                                                      *)

Observe(e, m, beginsWait) ==
    CASE e[1] = "bad" \/ m.t = "error" -> e
      [] e[1] # "bad" /\ m.t = "ready" ->
            IF e[1] = "ready" \/ (e[1] = "idle" /\ beginsWait) THEN <<"ready", m.room>> ELSE <<"bad", "ready, unasked">>
      [] e[1] # "bad" /\ m.t = "join" ->
            IF e = <<"ready", m.room>> THEN <<"in", m.room>> ELSE <<"bad", "join without its ready">>
      [] e[1] # "bad" /\ m.t = "relayed" ->
            IF e = <<"in", m.room>> THEN e ELSE <<"bad", "relayed outside its pairing">>
      [] e[1] # "bad" /\ m.t = "leave" ->
            IF e \in {<<"in", m.room>>, <<"apart", m.room>>, <<"ready", m.room>>} THEN <<"idle", None>>
            ELSE <<"bad", "leave, once more">>
      [] e[1] # "bad" /\ m.t = "peer" ->
            CASE e = <<"in", m.room>> /\ m.state = "away" -> <<"apart", m.room>>
              [] e = <<"apart", m.room>> /\ m.state = "back" -> <<"in", m.room>>
              [] OTHER -> <<"bad", "away or back, out of turn">>

RECURSIVE ObserveAll(_, _, _)
ObserveAll(e, sends, beginsWait) == IF sends = <<>> THEN e ELSE ObserveAll(Observe(e, Head(sends), beginsWait), Tail(sends), beginsWait)

---------------------------------------------------------------------------
(* Hand an event over without waiting *)

IsReachable(inboxes, statuses, to) ==
    (statuses[to] = "open" \/ (statuses[to] = "detached" /\ Mistake = "sent_to_detached")) /\ Len(inboxes[to]) < InboxCap
Enqueue(inboxes, statuses, to, event) ==
    CASE IsReachable(inboxes, statuses, to) -> [inbox |-> [inboxes EXCEPT ![to] = Append(@, event)], inboxStatus |-> statuses]
      [] statuses[to] = "open" /\ ~IsReachable(inboxes, statuses, to) /\ Mistake # "overflow_ignored" ->
            [inbox |-> inboxes, inboxStatus |-> [statuses EXCEPT ![to] = "overflowed"]]
      [] OTHER -> [inbox |-> inboxes, inboxStatus |-> statuses]

(* An endpoint steps its session, and its actions are performed *)

RECURSIVE Sum(_, _)
Sum(f, set) == IF set = {} THEN 0 ELSE LET x == CHOOSE x \in set : TRUE IN f[x] + Sum(f, set \ {x})
MayJoin(c) == joins[c] < Joins /\ Sum(joins, Clients) < AllJoins
Reaction(c, e) == React(c, session[c], e, <<c, joins[c] + 1>>, MayJoin(c))

Handle(c, e, inboxes, statuses) ==
    LET step == Reaction(c, e)
        delivered == IF step.forwards = <<>> THEN [inbox |-> inboxes, inboxStatus |-> statuses]
                ELSE Enqueue(inboxes, statuses, step.forwards[1].to, step.forwards[1].event)
        enters == step.requests # <<>> /\ step.requests[1].t = "Enter"
        observed == ObserveAll(monitor[c], step.sends, e.t \in {"join", "next"})
    IN /\ session' = [session EXCEPT ![c] = step.s]
       /\ requested' = [requested EXCEPT ![c] = @ \o step.requests]
       /\ joins' = [joins EXCEPT ![c] = IF enters /\ step.requests[1].id = <<c, @ + 1>> THEN @ + 1 ELSE @]
       /\ inbox' = delivered.inbox
       /\ inboxStatus' = delivered.inboxStatus
       /\ monitor' = [monitor EXCEPT ![c] = IF step.s.st = "closed" /\ observed[1] # "bad" THEN <<"gone", None>> ELSE observed]
       /\ UNCHANGED pool

Receive(c, e) == ~IsClosed(c) /\ ~session[c].away /\ Handle(c, e, inbox, inboxStatus)   \* a message from the client, allowed or not
ReceiveJoin(c) == \E wish \in Wishes : Receive(c, [t |-> "join", wish |-> wish])
ReceiveLeave(c) == Receive(c, [t |-> "leave"])
ReceiveNext(c) == Receive(c, [t |-> "next"])
ReceiveForPartner(c) == \E kind \in Kinds : Receive(c, [t |-> kind])

Take(c) ==   \* the session reads its inbox; a closed one too, until it is detached (a match must be answered)
    /\ inbox[c] # <<>>
    /\ Handle(c, Head(inbox[c]), [inbox EXCEPT ![c] = Tail(@)], inboxStatus)

Timeout(c) == session[c].st = "paired" /\ Handle(c, [t |-> "DeadlinePassed"], inbox, inboxStatus)

Lose(c) ==   \* the socket is lost or has to be closed, for whatever reason, at any time; or has been lost for too long
    /\ ~IsClosed(c)
    /\ Handle(c, [t |-> "ConnectionClosed"], inbox, [inboxStatus EXCEPT ![c] = "open"])

Interrupt(c) ==   \* the socket is lost without a goodbye
    /\ ~IsClosed(c) /\ ~session[c].away /\ session[c].cuts < Cuts
    /\ Handle(c, [t |-> "ConnectionLost"], inbox, inboxStatus)

Regain(c) ==   \* the client is back over another; maybe before it was missed
    /\ Cuts > 0 /\ ~IsClosed(c)
    /\ Handle(c, [t |-> "SessionResumed"], inbox, inboxStatus)

GiveUp(c) == session[c].away /\ Lose(c)   \* who does not come back is given up in the end
LoseOverflowed(c) == inboxStatus[c] = "overflowed" /\ Lose(c)   \* ... and this must happen in the end

Detach(c) ==   \* nobody can reach the session any more; the events left in its inbox have been handled
    /\ IsClosed(c) /\ inboxStatus[c] # "detached"
    /\ inbox[c] = <<>> \/ Mistake = "unread_forgotten"
    /\ inboxStatus' = [inboxStatus EXCEPT ![c] = "detached"]
    /\ inbox' = [inbox EXCEPT ![c] = <<>>]
    /\ UNCHANGED <<session, joins, requested, pool, monitor>>

---------------------------------------------------------------------------
(* matchmaker.py and policy/matching.py *)

Fits(x, y) ==   \* both there; both in the named room or both not; both take anybody, or they share the topic
    /\ (~x.away /\ ~y.away) \/ Mistake = "suspended_matched"
    /\ (x.wish = "den") = (y.wish = "den") \/ Mistake = "rooms_mixed"
    /\ (x.flexible /\ y.flexible) \/ x.wish = y.wish
Fitting(ticket, others) == {i \in 1..Len(others) : Fits(ticket, others[i])}
Without(tickets, i) == SubSeq(tickets, 1, i - 1) \o SubSeq(tickets, i + 1, Len(tickets))
First(indexes) == CHOOSE i \in indexes : \A j \in indexes : i <= j

Introduce(first, second) ==   \* notify both in one step; if one can't be reached, notify the other that it is over
    LET a == Owner(first.id)
        b == Owner(second.id)
        room == first.id
        one == Enqueue(inbox, inboxStatus, a, Matched(first.id, room, b, Mistake # "newcomer_offers"))
        reachedA == IsReachable(inbox, inboxStatus, a)
        two == Enqueue(one.inbox, one.inboxStatus, b, Matched(second.id, room, a, Mistake \in {"both_offer", "newcomer_offers"}))
        reachedB == IsReachable(one.inbox, one.inboxStatus, b)
        three == CASE Mistake = "introduced_half" -> two
                   [] Mistake # "introduced_half" /\ reachedA /\ ~reachedB -> Enqueue(two.inbox, two.inboxStatus, a, PeerLeft(room))
                   [] Mistake # "introduced_half" /\ ~reachedA /\ reachedB -> Enqueue(two.inbox, two.inboxStatus, b, PeerLeft(room))
                   [] OTHER -> two
    IN inbox' = three.inbox /\ inboxStatus' = three.inboxStatus

PairOrKeep(tickets, i) ==   \* the ticket in place i leaves with another that fits, or stays: the longer wait comes first
    LET ticket == tickets[i]
        others == Without(tickets, i)
        found == Fitting(ticket, others)
    IN IF found = {}
       THEN pool' = tickets /\ UNCHANGED <<inbox, inboxStatus>>
       ELSE \E j \in found :
            /\ pool' = IF Mistake = "pair_kept" THEN others ELSE Without(others, j)
            /\ IF j >= i THEN Introduce(ticket, others[j]) ELSE Introduce(others[j], ticket)

Place(id) == CHOOSE i \in 1..Len(pool) : pool[i].id = id
Returning(id) == \E i \in 1..Len(pool) : pool[i].id = id /\ pool[i].away

Serve(c) ==   \* the matchmaker takes one request
    /\ requested[c] # <<>>
    /\ requested' = [requested EXCEPT ![c] = Tail(@)]
    /\ LET request == Head(requested[c]) IN
       CASE request.t = "Enter" -> PairOrKeep(Append(pool, Ticket(request.id, request.wish)), Len(pool) + 1)
         [] request.t = "Withdraw" ->
              /\ pool' = SelectSeq(pool, LAMBDA ticket :
                            ticket.id # request.id \/ (ticket.away /\ Mistake = "suspended_kept"))
              /\ UNCHANGED <<inbox, inboxStatus>>
         [] request.t = "Suspend" ->   \* what is not there has been matched already
              /\ pool' = [i \in 1..Len(pool) |-> [pool[i] EXCEPT !.away = @ \/ pool[i].id = request.id]]
              /\ UNCHANGED <<inbox, inboxStatus>>
         [] request.t = "Reinstate" /\ ~Returning(request.id) -> UNCHANGED <<pool, inbox, inboxStatus>>
         [] request.t = "Reinstate" /\ Returning(request.id) ->
              LET i == Place(request.id)
                  ticket == [pool[i] EXCEPT !.away = FALSE]
              IN  CASE Mistake = "place_lost" -> PairOrKeep(Append(Without(pool, i), ticket), Len(pool))
                    [] Mistake = "reinstated_unseen" -> pool' = [pool EXCEPT ![i] = ticket] /\ UNCHANGED <<inbox, inboxStatus>>
                    [] OTHER -> PairOrKeep([pool EXCEPT ![i] = ticket], i)
    /\ UNCHANGED <<session, joins, monitor>>

Widen ==   \* the strict ticket that has waited longest becomes flexible
    LET strict == {i \in 1..Len(pool) : ~pool[i].flexible /\ ~pool[i].away}
        i == First(strict)
        tickets == [pool EXCEPT ![i].flexible = TRUE]
    IN /\ strict # {}
       /\ IF Mistake = "widened_unseen" THEN pool' = tickets /\ UNCHANGED <<inbox, inboxStatus>> ELSE PairOrKeep(tickets, i)
    /\ UNCHANGED <<session, joins, requested, monitor>>

---------------------------------------------------------------------------

Next == \/ Widen
        \/ \E c \in Clients : \/ ReceiveJoin(c) \/ ReceiveLeave(c) \/ ReceiveNext(c) \/ ReceiveForPartner(c)
                              \/ Take(c) \/ Timeout(c) \/ Lose(c) \/ Interrupt(c) \/ Regain(c) \/ Detach(c) \/ Serve(c)

Spec == Init /\ [][Next]_vars

(* What the server does not stop doing while there is something of it to do: it handles its inboxes, serves        *)
(* what it was asked, closes what it must. Clients are sure of nothing.                                            *)
(* Each client begins but so many waits, so where Kinds = {} no run goes round for ever. Then the server does not  *)
(* stop just if in the end it has nothing to do, <>[]~Busy: the same as WF_vars(ServerStep), which takes TLC twice *)
(* as long. BusyIsEnabled is the invariant that Busy is true when the server can take a step.                      *)
ServerStep == \/ Mistake # "never_widened" /\ Widen
              \/ \E c \in Clients : \/ Take(c) \/ Detach(c) \/ (Mistake # "unfair" /\ Serve(c))
                                    \/ (Mistake # "overflow_lingers" /\ LoseOverflowed(c))
                                    \/ (Mistake # "awaited_for_ever" /\ GiveUp(c))
Busy == \/ Mistake # "never_widened" /\ \E i \in 1..Len(pool) : ~pool[i].flexible /\ ~pool[i].away
        \/ \E c \in Clients : \/ inbox[c] # <<>>
                              \/ IsClosed(c) /\ inboxStatus[c] # "detached"
                              \/ Mistake # "unfair" /\ requested[c] # <<>>
                              \/ Mistake # "overflow_lingers" /\ inboxStatus[c] = "overflowed"
                              \/ Mistake # "awaited_for_ever" /\ session[c].away
BusyIsEnabled == Busy = ENABLED ServerStep
FairSpec == Spec /\ <>[]~Busy

---------------------------------------------------------------------------
(* Invariants. The numbers are those of the design's list. *)

(* 7. No step of a session leads elsewhere than its row of the table allows. *)
StaysInTable == \A c \in Clients : session[c].st \in States

Rooms == Clients \X (1..Joins)
InPool(id) == \E i \in 1..Len(pool) : pool[i].id = id
IsRequested(c, t, id) == \E i \in 1..Len(requested[c]) : requested[c][i].t = t /\ requested[c][i].id = id
Has(c, t, room) == \E i \in 1..Len(inbox[c]) : inbox[c][i].t = t /\ inbox[c][i].room = room
HasMatch(c, ticket) == \E i \in 1..Len(inbox[c]) : inbox[c][i].t = "Matched" /\ inbox[c][i].ticket = ticket
MustClose(c) == inboxStatus[c] = "overflowed"
IsInRoom(c, room) == Live(session[c]) /\ session[c].room = room

(* 1. Nobody is paired with itself. A room has two sessions at most, and if it has two, they are each other's partners. *)
Symmetric ==
    \A c \in Clients : Live(session[c]) =>
        LET p == session[c].partner  r == session[c].room IN
        /\ p # c
        /\ \A d \in Clients \ {c} : IsInRoom(d, r) => d = p /\ session[d].partner = c

(* 1, 3. Sessions, inboxes and senders that have to do with a room belong to the same two clients.                 *)
TwoPerRoom ==
    \A r \in Rooms :
        Cardinality({c \in Clients :
            \/ IsInRoom(c, r)
            \/ \E i \in 1..Len(inbox[c]) : inbox[c][i].room = r
            \/ \E d \in Clients : IsInRoom(d, r) /\ session[d].partner = c
            \/ \E d \in Clients : \E i \in 1..Len(inbox[d]) :
                  inbox[d][i].room = r /\ (\/ inbox[d][i].t = "Matched" /\ inbox[d][i].partner = c
                                           \/ inbox[d][i].t = "PeerSent" /\ inbox[d][i].from = c)}) <= 2

(* 2. A ticket in the pool is its client's present wait, or is about to be withdrawn; nobody has two there.        *)
PoolOnlyWaiting ==
    \A i \in 1..Len(pool) :
        LET id == pool[i].id  c == Owner(id) IN
        /\ (IsWaiting(c) /\ session[c].room = id) \/ IsRequested(c, "Withdraw", id)
        /\ \A j \in 1..Len(pool) : i # j => Owner(pool[j].id) # c

(* 2. Whoever waits is in the pool, or on the way into it or out of it: no wait is forgotten. *)
WaitingIsKnown ==
    \A c \in Clients : IsWaiting(c) =>
        LET id == session[c].room IN InPool(id) \/ IsRequested(c, "Enter", id) \/ HasMatch(c, id) \/ MustClose(c)

(* 2. Two who would fit never both stay. *)
NoPairLeftWaiting == \A i, j \in 1..Len(pool) : i # j => ~Fits(pool[i], pool[j])

(* 2. A named room pairs only with somebody who named the same one. *)
NamedRoomsApart ==
    \A c, d \in Clients : Live(session[c]) /\ IsInRoom(d, session[c].room) =>
        (session[c].wish = "den") = (session[d].wish = "den")

(* 3, 4. What is in an inbox and will be accepted was sent by the partner, in this pairing. *)
OnlyFromPartner ==
    \A c \in Clients : \A i \in 1..Len(inbox[c]) :
        LET m == inbox[c][i] IN
        m.t = "PeerSent" /\ Live(session[c]) /\ m.room = session[c].room => m.from = session[c].partner

(* 3, 4, 5. Each client is sent what makes sense (see Observe), and knows the server's state from that.            *)
SentInOrder == \A c \in Clients : monitor[c][1] # "bad"
StateIsKnown ==
    \A c \in Clients : LET s == session[c] IN
        CASE s.st = "connected" -> monitor[c] = <<"idle", None>>
          [] s.st = "waiting" -> monitor[c] = <<"ready", s.room>>
          [] Live(s) -> monitor[c] \in {<<"in", s.room>>, <<"apart", s.room>>}
          [] s.st = "closed" -> monitor[c] = <<"gone", None>>

(* 5. A client whose session has handled everything from its partner's knows whether the partner is away.          *)
PresenceKnown ==
    \A c, d \in Clients :
        LET r == session[c].room IN
        c # d /\ Live(session[c]) /\ IsInRoom(d, r) /\ ~Has(d, "PeerPresence", r) /\ ~MustClose(d) =>
            (monitor[d][1] = "apart") = session[c].away

(* 2. The ticket of somebody who is away is suspended, or about to be; that of anybody else is not, or about to be *)
(* reinstated or withdrawn.                                                                                        *)
AwayIsSuspended ==
    \A i \in 1..Len(pool) :
        LET id == pool[i].id  c == Owner(id) IN
        IsWaiting(c) /\ session[c].room = id /\ session[c].away => pool[i].away \/ IsRequested(c, "Suspend", id)
SuspendedIsAway ==
    \A i \in 1..Len(pool) :
        LET id == pool[i].id  c == Owner(id) IN
        pool[i].away => session[c].away \/ IsRequested(c, "Reinstate", id) \/ IsRequested(c, "Withdraw", id)

(* 2. Once the matchmaker knows that somebody is away, it matches it with nobody. (Of a step, not of a state.)     *)
AwayIsNotMatched ==
    [][\A c \in Clients :
          LET id == session[c].room IN
          (/\ IsWaiting(c) /\ session[c].away
           /\ ~IsRequested(c, "Enter", id) /\ ~IsRequested(c, "Suspend", id) /\ ~HasMatch(c, id))
              => ~HasMatch(c, id)']_vars

(* 2. Those who wait keep their order, whoever is away meanwhile. (Of a step.) *)
PlaceIsKept ==
    [][\A i, j \in 1..Len(pool) : \A k, m \in 1..Len(pool') :
          (i < j /\ pool'[k].id = pool[i].id /\ pool'[m].id = pool[j].id) => k < m]_vars

(* 5. Nobody is stranded: if my partner is not in my room, it is on its way there, or the end is on its way to me. *)
NotStranded ==
    \A c \in Clients : Live(session[c]) =>
        LET p == session[c].partner  r == session[c].room IN
        IsInRoom(p, r) \/ Has(p, "Matched", r) \/ Has(c, "PeerLeft", r) \/ MustClose(c)

(* 6. When everybody is gone and all that was asked is served, nothing is left. *)
Drained == \A c \in Clients : IsClosed(c) /\ inboxStatus[c] = "detached" /\ requested[c] = <<>>
NothingLeft == Drained => pool = <<>> /\ \A c \in Clients : inbox[c] = <<>>
DetachedIsEmpty == \A c \in Clients : inboxStatus[c] = "detached" => IsClosed(c) /\ inbox[c] = <<>>

(* 8. The offerer is the owner of the room, so there is exactly one; both sessions and both Matched agree on it.   *)
OneOfferer ==
    \A c \in Clients :
        /\ Live(session[c]) => session[c].polite = (Owner(session[c].room) # c)
        /\ \A i \in 1..Len(inbox[c]) :
              inbox[c][i].t = "Matched" => inbox[c][i].offerer = (Owner(inbox[c][i].room) = c)

(* 8. The first offer is the offerer's. *)
FirstOfferByOfferer ==
    \A c \in Clients : Live(session[c]) /\ session[c].view = "local" => ~session[c].polite \/ session[c].described

(* 8. When nothing is in flight between two partners, no offer is pending or exactly one is, and both know whose.  *)
Silent(c, r) == ~Has(c, "PeerSent", r) /\ ~Has(c, "PeerLeft", r) /\ ~MustClose(c)
ViewsAgree ==
    \A c, d \in Clients :
        (c # d /\ Live(session[c]) /\ IsInRoom(d, session[c].room) /\ Silent(c, session[c].room) /\ Silent(d, session[c].room)) =>
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
          /\ inboxStatus[c] \in {"open", "overflowed", "detached"}

---------------------------------------------------------------------------
(* What must come about in the end. P ~> Q: whenever P, then Q now or later. MClive.tla asks it of a, b; all are   *)
(* alike.                                                                                                          *)

(* Two who name the same room, or none, do not both wait for ever. *)
WaitersMeet(c, d) ==
    (IsWaiting(c) /\ IsWaiting(d) /\ (session[c].wish = "den") = (session[d].wish = "den"))
        ~> (~IsWaiting(c) \/ ~IsWaiting(d))

(* A closed session frees everything. *)
Freed(c) == IsClosed(c) /\ inboxStatus[c] = "detached" /\ requested[c] = <<>> /\ \A k \in 1..Joins : ~InPool(<<c, k>>)
LostIsFreed(c) == IsClosed(c) ~> Freed(c)

(* Whoever is in a room that the partner has left, or never comes to, is notified (or is closed). *)
Abandoned(c) ==
    LET p == session[c].partner  r == session[c].room IN Live(session[c]) /\ ~IsInRoom(p, r) /\ ~Has(p, "Matched", r)
AbandonedIsNotified(c) == Abandoned(c) ~> ~Live(session[c]) \/ ~Abandoned(c)

(* Who is away comes back or is given up, and so nobody is left with a partner who is away. *)
AwayIsSettled(c) == session[c].away ~> ~session[c].away
ApartEnds(c) == monitor[c][1] = "apart" ~> monitor[c][1] # "apart"

(* What did not fit into an inbox closes its session. *)
OverflowCloses(c) == MustClose(c) ~> IsClosed(c)
=============================================================================
