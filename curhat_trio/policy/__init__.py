"""Decisions as values, as pure as the protocol: time and chance arrive as arguments."""
