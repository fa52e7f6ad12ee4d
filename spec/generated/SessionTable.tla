----------------------------- MODULE SessionTable -----------------------------
(* Drawn by `curhat-trio spec` from TABLE in curhat_trio/protocol/session.py: change that, not this. *)
(*                                                                                                   *)
(* Table[state][event]: which rule a session in this state follows when this happens, and the states *)
(* that it may lead to; or else the session stays where it is. What the client says is in lower case.*)
(* Where TABLE has no row a message is refused ("wrong_state"), and anything else is ignored         *)
(* ("ignore"), as `step` does.                                                                       *)

States == {"connected", "waiting", "paired", "negotiating", "closed"}
Sayings == {"join", "leave", "offer", "answer", "candidate", "next", "chat", "typing", "status", "ice", "ping"}
Happenings == {"LinkOpened", "Misunderstood", "Overheated", "Matched", "PeerSaid", "PeerLeft", "DeadlinePassed", "LinkLost", "ClosingForced"}

Row(rule, to) == [rule |-> rule, to |-> to]

Table == [
  connected |-> [
    join |-> Row("join", {"waiting"}),
    leave |-> Row("wrong_state", {}),
    offer |-> Row("wrong_state", {}),
    answer |-> Row("wrong_state", {}),
    candidate |-> Row("wrong_state", {}),
    next |-> Row("wrong_state", {}),
    chat |-> Row("wrong_state", {}),
    typing |-> Row("wrong_state", {}),
    status |-> Row("wrong_state", {}),
    ice |-> Row("ice", {}),
    ping |-> Row("pong", {}),
    LinkOpened |-> Row("open", {}),
    Misunderstood |-> Row("misunderstand", {"closed"}),
    Overheated |-> Row("cool_down", {"closed"}),
    Matched |-> Row("decline", {}),
    PeerSaid |-> Row("ignore", {}),
    PeerLeft |-> Row("ignore", {}),
    DeadlinePassed |-> Row("lose_patience", {"closed"}),
    LinkLost |-> Row("vanish", {"closed"}),
    ClosingForced |-> Row("close_by_force", {"closed"})],
  waiting |-> [
    join |-> Row("wrong_state", {}),
    leave |-> Row("leave_wait", {"connected"}),
    offer |-> Row("wrong_state", {}),
    answer |-> Row("wrong_state", {}),
    candidate |-> Row("wrong_state", {}),
    next |-> Row("wrong_state", {}),
    chat |-> Row("wrong_state", {}),
    typing |-> Row("wrong_state", {}),
    status |-> Row("wrong_state", {}),
    ice |-> Row("ice", {}),
    ping |-> Row("pong", {}),
    LinkOpened |-> Row("ignore", {}),
    Misunderstood |-> Row("misunderstand", {"closed"}),
    Overheated |-> Row("cool_down", {"closed"}),
    Matched |-> Row("pair", {"paired"}),
    PeerSaid |-> Row("ignore", {}),
    PeerLeft |-> Row("ignore", {}),
    DeadlinePassed |-> Row("ignore", {}),
    LinkLost |-> Row("vanish", {"closed"}),
    ClosingForced |-> Row("close_by_force", {"closed"})],
  paired |-> [
    join |-> Row("wrong_state", {}),
    leave |-> Row("leave_pairing", {"connected"}),
    offer |-> Row("signal", {"negotiating"}),
    answer |-> Row("signal", {}),
    candidate |-> Row("signal", {"negotiating"}),
    next |-> Row("next", {"waiting"}),
    chat |-> Row("chat", {}),
    typing |-> Row("typing", {}),
    status |-> Row("wrong_state", {}),
    ice |-> Row("ice", {}),
    ping |-> Row("pong", {}),
    LinkOpened |-> Row("ignore", {}),
    Misunderstood |-> Row("misunderstand", {"closed"}),
    Overheated |-> Row("cool_down", {"closed"}),
    Matched |-> Row("decline", {}),
    PeerSaid |-> Row("hear", {"negotiating"}),
    PeerLeft |-> Row("lose_partner", {"connected"}),
    DeadlinePassed |-> Row("watch_clock", {"negotiating", "connected"}),
    LinkLost |-> Row("vanish", {"closed"}),
    ClosingForced |-> Row("close_by_force", {"closed"})],
  negotiating |-> [
    join |-> Row("wrong_state", {}),
    leave |-> Row("leave_pairing", {"connected"}),
    offer |-> Row("signal", {}),
    answer |-> Row("signal", {}),
    candidate |-> Row("signal", {}),
    next |-> Row("next", {"waiting"}),
    chat |-> Row("chat", {}),
    typing |-> Row("typing", {}),
    status |-> Row("status", {}),
    ice |-> Row("ice", {}),
    ping |-> Row("pong", {}),
    LinkOpened |-> Row("ignore", {}),
    Misunderstood |-> Row("misunderstand", {"closed"}),
    Overheated |-> Row("cool_down", {"closed"}),
    Matched |-> Row("decline", {}),
    PeerSaid |-> Row("hear", {}),
    PeerLeft |-> Row("lose_partner", {"connected"}),
    DeadlinePassed |-> Row("lose_media", {"connected"}),
    LinkLost |-> Row("vanish", {"closed"}),
    ClosingForced |-> Row("close_by_force", {"closed"})],
  closed |-> [
    join |-> Row("ignore", {}),
    leave |-> Row("ignore", {}),
    offer |-> Row("ignore", {}),
    answer |-> Row("ignore", {}),
    candidate |-> Row("ignore", {}),
    next |-> Row("ignore", {}),
    chat |-> Row("ignore", {}),
    typing |-> Row("ignore", {}),
    status |-> Row("ignore", {}),
    ice |-> Row("ignore", {}),
    ping |-> Row("ignore", {}),
    LinkOpened |-> Row("ignore", {}),
    Misunderstood |-> Row("ignore", {}),
    Overheated |-> Row("ignore", {}),
    Matched |-> Row("decline", {}),
    PeerSaid |-> Row("ignore", {}),
    PeerLeft |-> Row("ignore", {}),
    DeadlinePassed |-> Row("ignore", {}),
    LinkLost |-> Row("ignore", {}),
    ClosingForced |-> Row("ignore", {})]]

RuleOf(state, event) == Table[state][event].rule
MayLead(state, event) == {state} \cup Table[state][event].to
===============================================================================
