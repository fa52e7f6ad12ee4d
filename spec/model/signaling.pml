/* Signaling.tla in Promela, with the same names: what must come about in the end, also while partners send for ever.
 *
 * Differs from Signaling.tla in two things: requests go to the matchmaker through one shared bounded channel, and
 * whoever has one to make waits for room there, as in backends/memory.py; and there are no wishes, so the pool holds
 * one ticket at most. Rooms and tickets are numbers: wait k (from 1) of client c is c * JOINS + k; 0 is none.
 *
 *   spin -DN=3 -a signaling.pml && gcc -O2 -w -DNOREDUCE -DNFAIR=7 -o pan pan.c && ./pan -a -f -N meet -m1000000
 */
#ifndef N
#define N 3
#endif
#ifndef JOINS
#define JOINS 1
#endif
#ifndef INBOX
#define INBOX 2
#endif
#ifndef REQUESTS
#define REQUESTS 2
#endif
#define NONE N
#define OWNER(room) ((room - 1) / JOINS)

mtype:state = { connected, waiting, paired, negotiating, closed };
mtype:inbox_status = { open, overflowed, detached };
mtype:view = { stable, have_local, have_remote };
mtype:event = { Enter, Withdraw, Matched, PeerLeft, offer, answer, chat };

mtype:state st[N] = connected;
mtype:inbox_status inbox_status[N] = open;
mtype:view view[N] = stable;
bool described[N];
byte room[N];                                        /* the ticket, while waiting */
byte partner[N] = NONE;
byte joins[N];
byte leaving = 0;    /* client 0's `leave`: 1 it is on its way, and may cross anything; 2 it was taken and not answered */
hidden byte idle;
byte pool;                                           /* the one ticket that waits */
chan requests = [REQUESTS] of { mtype:event, byte };
chan inbox[N] = [INBOX] of { mtype:event, byte, byte, byte };   /* what, room, ticket, partner */

#define LIVE(c) (st[c] == paired || st[c] == negotiating)
#define POLITE(c) (OWNER(room[c]) != c)
#define MAY_OFFER(c) (LIVE(c) && ((view[c] == have_remote && !POLITE(c)) || \
                                  (view[c] == stable && (!POLITE(c) || described[c]))))

#define REACHES(c) (inbox_status[c] == open && len(inbox[c]) < INBOX)
#define ROOM_TO_ASK (len(requests) < REQUESTS)

inline enqueue(to, event, in_room, for_ticket, from) {
  if
  :: REACHES(to) -> inbox[to]!event(in_room, for_ticket, from)
  :: inbox_status[to] == open && len(inbox[to]) == INBOX -> inbox_status[to] = overflowed
  :: else
  fi
}
inline alone(c, now) { st[c] = now; room[c] = 0; partner[c] = NONE; view[c] = stable; described[c] = false }
inline begin_wait(c) {
  joins[c]++; alone(c, waiting); room[c] = c * JOINS + joins[c]; requests!Enter(room[c])
}
inline lose(c) {
  if
#ifndef NO_WITHDRAWAL   /* a mistake: `freed` must fail */
  :: st[c] == waiting -> requests!Withdraw(room[c])
#endif
  :: LIVE(c) -> enqueue(partner[c], PeerLeft, room[c], 0, NONE)
  :: else
  fi;
  alone(c, closed); inbox_status[c] = open;
  if
  :: c == 0 -> leaving = 0
  :: else
  fi
}
inline leave(c) {
  if
  :: st[c] == waiting -> requests!Withdraw(room[c])
  :: LIVE(c) -> enqueue(partner[c], PeerLeft, room[c], 0, NONE)
  :: else   /* refused, which is an answer too */
  fi;
  if
  :: st[c] != closed -> alone(c, connected)
  :: else
  fi
}

/* A client sends anything, or nothing; its socket may be lost. Refused messages change nothing: left out. */
proctype Client(byte c) {
end:
  do
  :: d_step { st[c] == connected && joins[c] < JOINS && ROOM_TO_ASK -> begin_wait(c) }
  :: d_step { (LIVE(c) || (st[c] == waiting && ROOM_TO_ASK && c != 0)) -> leave(c) }   /* leave, timeout */
  :: d_step { c == 0 && leaving == 0 && st[c] != closed -> leaving = 1 }
  :: d_step { LIVE(c) && joins[c] < JOINS && ROOM_TO_ASK ->
       enqueue(partner[c], PeerLeft, room[c], 0, NONE); begin_wait(c) }
  :: d_step { MAY_OFFER(c) ->
       view[c] = have_local; st[c] = negotiating; enqueue(partner[c], offer, room[c], 0, c) }
  :: d_step { LIVE(c) && view[c] == have_remote ->
       view[c] = stable; described[c] = true; enqueue(partner[c], answer, room[c], 0, c) }
  :: d_step { st[c] != closed && (st[c] != waiting || ROOM_TO_ASK) -> lose(c) }
  :: idle = 0   /* or it does nothing: fairness must not make it send */
  od
}

/* The session reads its inbox; when it is closed it answers the matches that it had not read, and is detached. */
proctype Session(byte c) {
  mtype:event what; byte r, ticket, who;
end:
  do
  :: d_step { len(inbox[c]) > 0 -> inbox[c]?what(r, ticket, who);
       if
       :: what == Matched && st[c] == waiting && room[c] == ticket -> st[c] = paired; room[c] = r; partner[c] = who
       :: what == Matched && !(st[c] == waiting && room[c] == ticket) ->
#ifndef NO_DECLINE   /* a mistake: `notified` must fail */
            enqueue(who, PeerLeft, r, 0, NONE)
#else
            skip
#endif
       :: what == PeerLeft && LIVE(c) && room[c] == r -> alone(c, connected)
       :: what == offer && LIVE(c) && room[c] == r && !(view[c] == have_local && !POLITE(c)) ->
            assert(view[c] != have_remote && who == partner[c]); view[c] = have_remote; st[c] = negotiating
       :: what == answer && LIVE(c) && room[c] == r ->
            assert(view[c] == have_local && who == partner[c]); view[c] = stable; described[c] = true
       :: else
       fi; r = 0; ticket = 0; who = 0; what = 0 }
#ifndef OVERFLOW_LINGERS  /* a mistake: `closes` must fail */
  :: d_step { inbox_status[c] == overflowed && st[c] != closed && (st[c] != waiting || ROOM_TO_ASK) -> lose(c) }
#endif
  :: d_step { st[c] == closed && inbox_status[c] != detached && len(inbox[c]) == 0 -> inbox_status[c] = detached }
  od
}

/* Client 0's `leave` arrives. A process of its own, so that what else there is to read does not keep it waiting. */
active proctype Arrival() {
end:
  do
  :: d_step { leaving == 1 && st[0] != closed && (st[0] != waiting || ROOM_TO_ASK) -> leave(0);
#ifndef NO_ECHO           /* a mistake: `answered` must fail */
       leaving = 0 }
#else
       leaving = 2 }
#endif
  od
}

active proctype Matchmaker() {
  mtype:event what; byte ticket, a, b; bool reachedA, reachedB;
end:
  do
  :: d_step { len(requests) > 0 -> requests?what(ticket);
       if
       :: what == Withdraw && pool == ticket -> pool = 0
       :: what == Enter && pool == 0 -> pool = ticket
       :: what == Enter && pool != 0 ->                 /* introduce */
            a = OWNER(pool); b = OWNER(ticket);
            reachedA = REACHES(a); enqueue(a, Matched, pool, pool, b);
            reachedB = REACHES(b); enqueue(b, Matched, pool, ticket, a);
            if
            :: reachedA && !reachedB -> enqueue(a, PeerLeft, pool, 0, NONE)
            :: reachedB && !reachedA -> enqueue(b, PeerLeft, pool, 0, NONE)
            :: else
            fi;
            pool = 0
       :: else
       fi; what = 0; ticket = 0; a = 0; b = 0; reachedA = false; reachedB = false }
#ifdef UNFAIR        /* a mistake: `meet` must fail */
  :: idle = 0
#endif
  od
}

init { byte i; atomic { for (i : 0 .. N-1) { run Client(i); run Session(i) } i = 0 } }

#define COMES(c) (inbox[c]??[Matched, _, _, _])
#define IN_ROOM(c, r) (LIVE(c) && room[c] == r)
#define ABANDONED(c) (LIVE(c) && !IN_ROOM(partner[c], room[c]) && !COMES(partner[c]))
#define FREED(c) (inbox_status[c] == detached && (pool == 0 || OWNER(pool) != c))

ltl meet  { [] ((st[0] == waiting && st[1] == waiting) -> <> (st[0] != waiting || st[1] != waiting)) }
ltl freed { [] (st[0] == closed -> <> [] FREED(0)) }
ltl notified  { [] (ABANDONED(0) -> <> !ABANDONED(0)) }
ltl answered { [] (leaving != 0 -> <> (leaving == 0)) }
ltl closes { [] (inbox_status[0] == overflowed -> <> (inbox_status[0] != overflowed)) }
