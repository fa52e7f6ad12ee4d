---- MODULE MC ----
(* Signaling with clients that may change places: for safety, TLC needs to look at one of each six orders. *)
EXTENDS Signaling, TLC
Symmetry == Permutations(Clients)
(* A CONSTRAINT for a smaller world: nobody else's connection is lost before who lost the first is closed. *)
OneLosesItsLink == \A c, d \in Clients : session[c].cuts > 0 /\ session[d].cuts > 0 => c = d
====
