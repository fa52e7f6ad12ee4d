------------------------------- MODULE Clients -------------------------------
(* Signaling with sockets and with clients that follow spec/protocol.md: they send what their state allows, as far *)
(* as they know it. What they and the server send may cross on the way, and each reads in order.                   *)
(* What partners send to each other is left out here.                                                              *)
EXTENDS Signaling

CONSTANTS
    InbCap,      \* how much a client sends before the server has read it
    OutCap,      \* how much the server sends before the client has read it; more, and the client is closed (4001)
    NonReaders,        \* clients that may never read what they are sent
    AcceptsRefusal \* TRUE: a client whose `leave` or `next` is refused with wrong_state knows that the pairing is over.
                 \* FALSE: it waits for the `leave` that carries its own id

VARIABLES
    up,     \* of each client: its socket is there
    inb,    \* sent by the client, not yet read by the server
    out,    \* sent by the server, not yet read by the client
    belief  \* what the client believes: "idle", "waiting", "paired"; "leaving", "moving": its leave, its next is on the way

wires == <<up, inb, out, belief>>
all == <<vars, wires>>

ClientInit == Init /\ up = [c \in Clients |-> TRUE] /\ inb = [c \in Clients |-> <<>>]
             /\ out = [c \in Clients |-> <<>>] /\ belief = [c \in Clients |-> "idle"]

(* the client *)

Joining(c) == joins[c] + Len(SelectSeq(inb[c], LAMBDA m : m.t \in {"join", "next"}))
Write(c, m, new) ==
    /\ up[c] /\ Len(inb[c]) < InbCap
    /\ inb' = [inb EXCEPT ![c] = Append(@, m)]
    /\ belief' = [belief EXCEPT ![c] = new]
    /\ UNCHANGED <<vars, up, out>>
WantJoin(c) == belief[c] = "idle" /\ Joining(c) < Joins /\ Write(c, [t |-> "join", wish |-> "any"], "waiting")
WantLeave(c) == belief[c] \in {"waiting", "paired"} /\ Write(c, [t |-> "leave"], "leaving")
WantNext(c) == belief[c] = "paired" /\ Joining(c) < Joins /\ Write(c, [t |-> "next"], "moving")
Drop(c) == up[c] /\ up' = [up EXCEPT ![c] = FALSE] /\ UNCHANGED <<vars, inb, out, belief>>

Update(c, old, m) ==
    CASE m.t = "join" /\ old = "waiting" -> "paired"
      [] m.t = "leave" /\ old = "paired" -> "idle"
      [] m.t = "leave" /\ old = "leaving" /\ m.from = c -> "idle"
      [] m.t = "leave" /\ old = "moving" /\ m.from = c -> "waiting"
      [] m.t = "error" /\ AcceptsRefusal /\ <<old, m.ref>> \in {<<"leaving", "leave">>, <<"moving", "next">>} -> "idle"
      [] OTHER -> old
TooSlow(c) == Len(out[c]) > OutCap /\ Mistake # "slow_kept"   \* nothing more happens before Close1
Read(c) ==
    /\ up[c] /\ out[c] # <<>> /\ ~TooSlow(c)
    /\ belief' = [belief EXCEPT ![c] = Update(c, @, Head(out[c]))]
    /\ out' = [out EXCEPT ![c] = Tail(@)]
    /\ UNCHANGED <<vars, up, inb>>

(* the server *)

Reply(c, e) == out' = [out EXCEPT ![c] = @ \o Reaction(c, e).sends]
Receive1(c) ==
    /\ inb[c] # <<>> /\ ~TooSlow(c) /\ Receive(c, Head(inb[c])) /\ Reply(c, Head(inb[c]))
    /\ inb' = [inb EXCEPT ![c] = Tail(@)] /\ UNCHANGED <<up, belief>>
Take1(c) == ~TooSlow(c) /\ Take(c) /\ Reply(c, Head(inbox[c])) /\ UNCHANGED <<up, inb, belief>>
Timeout1(c) == ~TooSlow(c) /\ Timeout(c) /\ Reply(c, [t |-> "DeadlinePassed"]) /\ UNCHANGED <<up, inb, belief>>
MustHangUp(c) ==
    /\ ~IsClosed(c)
    /\ TooSlow(c) \/ inboxStatus[c] = "overflowed" \/ (~up[c] /\ Mistake # "loss_unseen")
Close1(c) ==   \* the socket is gone, or the client is too slow in either direction
    /\ MustHangUp(c)
    /\ Lose(c)
    /\ up' = [up EXCEPT ![c] = FALSE] /\ inb' = [inb EXCEPT ![c] = <<>>] /\ out' = [out EXCEPT ![c] = <<>>]
    /\ belief' = [belief EXCEPT ![c] = "idle"]
Background(c) == (Detach(c) \/ Serve(c)) /\ UNCHANGED wires

Server(c) == Receive1(c) \/ Take1(c) \/ Close1(c) \/ Background(c)
ClientStep(c) == WantJoin(c) \/ WantLeave(c) \/ WantNext(c) \/ Drop(c) \/ Read(c) \/ Timeout1(c) \/ Server(c)

(* While anything is on the way, something of it arrives. No run goes round for ever: as in Signaling.tla, that is *)
(* the same as weak fairness of \E c \in Clients : (c \notin Deaf /\ Read(c)) \/ Server(c).                        *)
Due(c) == \/ c \notin NonReaders /\ up[c] /\ out[c] # <<>>
          \/ inb[c] # <<>> \/ MustHangUp(c)
          \/ inbox[c] # <<>> \/ requested[c] # <<>> \/ (IsClosed(c) /\ inboxStatus[c] # "detached")
DueIsEnabled == (\E c \in Clients : Due(c)) = ENABLED \E c \in Clients : (c \notin NonReaders /\ Read(c)) \/ Server(c)
ClientSpec == ClientInit /\ [][\E c \in Clients : ClientStep(c)]_all /\ <>[](\A c \in Clients : ~Due(c))

---------------------------------------------------------------------------

(* Every leave and next is answered (or the connection is over). *)
IsOnItsWay(c) == belief[c] \in {"leaving", "moving"}
LeaveIsAnswered(c) == IsOnItsWay(c) ~> ~IsOnItsWay(c) \/ ~up[c]

(* A client does not believe for ever that it talks, or waits, when it does not. *)
Mistaken(c) == \/ belief[c] = "paired" /\ ~Live(session[c])
               \/ belief[c] = "waiting" /\ session[c].st # "waiting"
BeliefIsTrue(c) == Mistaken(c) ~> ~Mistaken(c) \/ ~up[c]

(* A lost socket closes the session and frees everything. *)
LostSocketIsFreed(c) == ~up[c] ~> Freed(c)

(* Who does not read fast enough is closed, and what waits for it is bounded. *)
SlowIsClosed(c) == Len(out[c]) > OutCap ~> IsClosed(c)
OutIsBounded == \A c \in Clients : Len(out[c]) <= OutCap + 3   \* no step sends more than three messages

(* The only refusal that a client gets which does as it should is of a leave or next that crossed its partner's.   *)
OnlyLeaveIsRefused == \A c \in Clients : \A i \in 1..Len(out[c]) :
    out[c][i].t = "error" => out[c][i].ref \in {"leave", "next"}
=============================================================================
