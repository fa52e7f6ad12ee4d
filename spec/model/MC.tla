---- MODULE MC ----
(* Signaling with clients that may change places: for safety, TLC needs to look at one of each six orders. *)
EXTENDS Signaling, TLC
Symmetry == Permutations(Clients)
====
