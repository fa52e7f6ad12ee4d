------------------------------- MODULE Clients -------------------------------
(* Signaling with sockets and with clients that follow spec/protocol.md: they say what their state allows, as far  *)
(* as they know it. What they say and what the server says cross on the way, and each reads in order.              *)
(* What partners say to each other is left out here.                                                               *)
EXTENDS Signaling

CONSTANTS
    InbCap,      \* how much a client says before the server has read it
    OutCap,      \* how much the server says before the client has read it; more, and the client is closed (4001)
    Deaf,        \* clients that may never read what they are told
    HeedsRefusal \* TRUE: a client whose `leave` or `next` is refused with wrong_state knows that the pairing is over.
                 \* FALSE: it waits for the `leave` that carries its own id

VARIABLES
    up,     \* of each client: its socket is there
    inb,    \* said by the client, not yet read by the server
    out,    \* said by the server, not yet read by the client
    mood    \* what the client believes: "idle", "waiting", "paired"; "leaving", "moving": its leave, its next is on the way

wires == <<up, inb, out, mood>>
all == <<vars, wires>>

Here == Init /\ up = [c \in Clients |-> TRUE] /\ inb = [c \in Clients |-> <<>>]
             /\ out = [c \in Clients |-> <<>>] /\ mood = [c \in Clients |-> "idle"]

(* the client *)

Joining(c) == joins[c] + Len(SelectSeq(inb[c], LAMBDA m : m.t \in {"join", "next"}))
Tells(c, m, belief) ==
    /\ up[c] /\ Len(inb[c]) < InbCap
    /\ inb' = [inb EXCEPT ![c] = Append(@, m)]
    /\ mood' = [mood EXCEPT ![c] = belief]
    /\ UNCHANGED <<vars, up, out>>
WantJoin(c) == mood[c] = "idle" /\ Joining(c) < Joins /\ Tells(c, [t |-> "join", wish |-> "any"], "waiting")
WantLeave(c) == mood[c] \in {"waiting", "paired"} /\ Tells(c, [t |-> "leave"], "leaving")
WantNext(c) == mood[c] = "paired" /\ Joining(c) < Joins /\ Tells(c, [t |-> "next"], "moving")
Drop(c) == up[c] /\ up' = [up EXCEPT ![c] = FALSE] /\ UNCHANGED <<vars, inb, out, mood>>

Learn(c, belief, m) ==
    CASE m.t = "join" /\ belief = "waiting" -> "paired"
      [] m.t = "leave" /\ belief = "paired" -> "idle"
      [] m.t = "leave" /\ belief = "leaving" /\ m.from = c -> "idle"
      [] m.t = "leave" /\ belief = "moving" /\ m.from = c -> "waiting"
      [] m.t = "error" /\ HeedsRefusal /\ <<belief, m.ref>> \in {<<"leaving", "leave">>, <<"moving", "next">>} -> "idle"
      [] OTHER -> belief
TooSlow(c) == Len(out[c]) > OutCap /\ Mistake # "slow_kept"   \* nothing more happens before Close1
Read(c) ==
    /\ up[c] /\ out[c] # <<>> /\ ~TooSlow(c)
    /\ mood' = [mood EXCEPT ![c] = Learn(c, @, Head(out[c]))]
    /\ out' = [out EXCEPT ![c] = Tail(@)]
    /\ UNCHANGED <<vars, up, inb>>

(* the server *)

Answer(c, e) == out' = [out EXCEPT ![c] = @ \o Reaction(c, e).says]
Hear1(c) ==
    /\ inb[c] # <<>> /\ ~TooSlow(c) /\ Say(c, Head(inb[c])) /\ Answer(c, Head(inb[c]))
    /\ inb' = [inb EXCEPT ![c] = Tail(@)] /\ UNCHANGED <<up, mood>>
Take1(c) == ~TooSlow(c) /\ Take(c) /\ Answer(c, Head(inbox[c])) /\ UNCHANGED <<up, inb, mood>>
Timeout1(c) == ~TooSlow(c) /\ Timeout(c) /\ Answer(c, [t |-> "DeadlinePassed"]) /\ UNCHANGED <<up, inb, mood>>
MustHangUp(c) ==
    /\ ~IsClosed(c)
    /\ TooSlow(c) \/ door[c] = "overflowed" \/ (~up[c] /\ Mistake # "loss_unseen")
Close1(c) ==   \* the socket is gone, or the client is too slow in either direction
    /\ MustHangUp(c)
    /\ Lose(c)
    /\ up' = [up EXCEPT ![c] = FALSE] /\ inb' = [inb EXCEPT ![c] = <<>>] /\ out' = [out EXCEPT ![c] = <<>>]
    /\ mood' = [mood EXCEPT ![c] = "idle"]
Behind(c) == (Detach(c) \/ Serve(c)) /\ UNCHANGED wires

Server(c) == Hear1(c) \/ Take1(c) \/ Close1(c) \/ Behind(c)
Move(c) == WantJoin(c) \/ WantLeave(c) \/ WantNext(c) \/ Drop(c) \/ Read(c) \/ Timeout1(c) \/ Server(c)

(* While anything is on the way, something of it arrives. No run goes round for ever: as in Signaling.tla, that is  *)
(* the same as weak fairness of \E c \in Clients : (c \notin Deaf /\ Read(c)) \/ Server(c).                           *)
Due(c) == \/ c \notin Deaf /\ up[c] /\ out[c] # <<>>
          \/ inb[c] # <<>> \/ MustHangUp(c)
          \/ inbox[c] # <<>> \/ asked[c] # <<>> \/ (IsClosed(c) /\ door[c] # "detached")
DueIsEnabled == (\E c \in Clients : Due(c)) = ENABLED \E c \in Clients : (c \notin Deaf /\ Read(c)) \/ Server(c)
Honest == Here /\ [][\E c \in Clients : Move(c)]_all /\ <>[](\A c \in Clients : ~Due(c))

---------------------------------------------------------------------------

(* Every leave and next is answered (or the connection is over). *)
OnItsWay(c) == mood[c] \in {"leaving", "moving"}
LeaveIsAnswered(c) == OnItsWay(c) ~> ~OnItsWay(c) \/ ~up[c]

(* A client does not believe for ever that it talks, or waits, when it does not. *)
Mistaken(c) == \/ mood[c] = "paired" /\ ~Live(session[c])
               \/ mood[c] = "waiting" /\ session[c].st # "waiting"
BeliefIsTrue(c) == Mistaken(c) ~> ~Mistaken(c) \/ ~up[c]

(* A lost socket closes the session and frees everything. *)
LostSocketIsFreed(c) == ~up[c] ~> Freed(c)

(* Who does not read fast enough is closed, and what waits for it is bounded. *)
SlowIsClosed(c) == Len(out[c]) > OutCap ~> IsClosed(c)
OutIsBounded == \A c \in Clients : Len(out[c]) <= OutCap + 3   \* no step says more than three things

(* The only refusal that a client gets which does as it should is of a leave or next that crossed its partner's. *)
OnlyLeaveIsRefused == \A c \in Clients : \A i \in 1..Len(out[c]) :
    out[c][i].t = "error" => out[c][i].ref \in {"leave", "next"}
=============================================================================
