"""Changes of the session's table that nobody can notice, each with the reason. `table_mutation.py` reads this."""

SURVIVORS: dict[str, str] = {
    "add (Closed, DeadlinePassed) give_up": "a closed session is not away, so the rule finds nobody to give up",
}
