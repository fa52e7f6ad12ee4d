---- MODULE MCclients ----
(* Clients: what must come about in the end, asked of one client. *)
EXTENDS Clients
CONSTANTS a
LeaveIsAnsweredA == LeaveIsAnswered(a)
BeliefIsTrueA == BeliefIsTrue(a)
LostSocketIsFreedA == LostSocketIsFreed(a)
====
