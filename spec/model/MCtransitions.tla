---- MODULE MCtransitions ----
(* Signaling, printing each transition of a session when it is first made. run.py compares them with the table: a  *)
(* row that is never used, or a state that it never leads to, would be noticed.                                    *)
EXTENDS Signaling, TLC
Symmetry == Permutations(Clients)
ASSUME TLCSet(1, {})
CheckRowAndPrint(before, event, step) ==
    LET transition == <<before, event, step.s.st>>
        printed == transition \in TLCGet(1) \/ (TLCSet(1, TLCGet(1) \cup {transition}) /\ PrintT(transition))
    IN IF printed /\ step.s.st \in MayLead(before, event) THEN step ELSE [step EXCEPT !.s.st = "nowhere"]
====
