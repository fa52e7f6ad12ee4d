"""Policies without I/O: matching, connection slots, TURN credentials. Time and randomness are arguments."""
