---- MODULE MClive ----
(* Signaling: what must come about in the end, asked of particular clients. *)
EXTENDS Signaling
CONSTANTS a, b
WaitersMeetAB == WaitersMeet(a, b)
LostIsFreedA == LostIsFreed(a)
AbandonedIsNotifiedA == AbandonedIsNotified(a)
AwayIsSettledA == AwayIsSettled(a)
ApartEndsA == ApartEnds(a)
OverflowClosesA == OverflowCloses(a)
====
