---- MODULE MCclients ----
(* Clients: what must come about in the end, asked of particular clients. *)
EXTENDS Clients
CONSTANTS a, b
LeaveIsAnsweredA == LeaveIsAnswered(a)
BeliefIsTrueA == BeliefIsTrue(a)
LostSocketIsFreedA == LostSocketIsFreed(a)
SlowIsClosedA == SlowIsClosed(a)
LeaveIsAnsweredB == LeaveIsAnswered(b)
BeliefIsTrueB == BeliefIsTrue(b)
====
