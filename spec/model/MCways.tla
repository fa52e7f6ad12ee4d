---- MODULE MCways ----
(* Signaling, telling each way that a session goes when it is first gone. run.py compares them with the table: a    *)
(* row that is never used, or a state that it never leads to, would be noticed.                                     *)
EXTENDS Signaling, TLC
Symmetry == Permutations(Clients)
ASSUME TLCSet(1, {})
ObeyAndTell(before, event, step) ==
    LET way == <<before, event, step.s.st>>
        told == way \in TLCGet(1) \/ (TLCSet(1, TLCGet(1) \cup {way}) /\ PrintT(way))
    IN IF told /\ step.s.st \in MayLead(before, event) THEN step ELSE [step EXCEPT !.s.st = "nowhere"]
====
