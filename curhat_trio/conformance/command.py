"""`curhat-trio conform`: tests a server, or with `--listen` a client."""

from collections.abc import Sequence

from curhat_trio.conformance.client import command as client_command
from curhat_trio.conformance.server import command as server_command


def main(arguments: Sequence[str]) -> int:
    """Test a server, or with `--listen` a client, and report.

    Returns:
        The exit status: 0, 1 if a rule was broken or none was tested, or 2 if the test could not begin.
    """
    if "--listen" in arguments:
        return client_command.main([argument for argument in arguments if argument != "--listen"])
    return server_command.main(arguments)
