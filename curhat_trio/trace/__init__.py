"""What the server did, line by line, for checkers: `--trace FILE`. The lines are told in spec/trace.md.

`lines` says what a line tells of a session, an event, an effect; `writer` writes them while the server runs.
`checker` reads them afterwards, and refuses what this server can't have done; to know that, it has a server do it
again (`rerun`).
"""
