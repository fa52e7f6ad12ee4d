"""A load generator and relay checker for any server of this protocol on this machine: `curhat-trio load URL`.

plan.py      what is to be done, and whose turn it is in a conversation
labels.py    messages that tell where they belong
checker.py   which of them arrived, and what went wrong
site.py      the server's address, which must be this machine's
frames.py    WebSocket frames
wire.py      connections that cost little
meeting.py   where two clients meet, and what all have done
caller.py    one client: join, exchange, part
scenario.py  all of them, phase by phase
gauges.py    percentiles, and what a process uses
report.py    the table and the JSON
progress.py  what is shown meanwhile
command.py   the command line
"""
