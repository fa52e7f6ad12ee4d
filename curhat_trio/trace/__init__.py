"""Traces: what the server did, line by line, for checkers (`--trace FILE`). The format is in spec/trace.md.

`lines` makes the line of a session, an event, an effect; `writer` writes them while the server runs. `checker`
reads them afterwards, and refuses what this server can't have done: it runs the same server again (`rerun`).
"""
