"""A load generator and relay checker for any server of this protocol on this machine: `curhat-trio load URL`.

plan.py          the options of a run, and whose turn it is in a conversation
labels.py        messages labelled with their sender, room and number
checker.py       which messages arrived, and what went wrong with the others
target.py        the address of the server, which must be on this machine
frames.py        WebSocket frames
connection.py    WebSocket connections that cost little CPU time
pairing.py       two paired clients, and the statistics of all clients
client.py        one client: join, exchange messages, leave
run.py           a whole run, phase by phase
measurements.py  percentiles, and the resources that a process uses
report.py        the table and the JSON
progress.py      the progress line
command.py       the command line
"""
