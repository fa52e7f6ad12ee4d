---- MODULE MC ----
(* Signaling with clients that may change places: for safety, TLC needs to look at one of each six orders.         *)
EXTENDS Signaling, TLC
Symmetry == Permutations(Clients)
(* A CONSTRAINT for a smaller world: no second connection is lost before the client that lost the first is closed. *)
OneLosesItsConnection == \A c, d \in Clients : session[c].cuts > 0 /\ session[d].cuts > 0 => c = d
====
