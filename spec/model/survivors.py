"""Changes of the session's table that nothing can detect, each with the reason. `table_mutation.py` reads this."""

SURVIVORS: dict[str, str] = {
    "add (Closed, DeadlinePassed) resume_timeout": "a closed session is not away, and so not for too long",
    "add (Closed, SessionSuperseded) supersede": "the rule closes the session, and does nothing else",
}
