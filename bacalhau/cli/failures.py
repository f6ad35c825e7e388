"""What ends a command other than its success, and the exit codes for it.

Exit codes are those of `docker run`: the job's own where there is one, 125 where the system failed, 2 for a
command line or file that cannot be read.
"""

from __future__ import annotations

OK = 0
USAGE_FAILURE = 2
SYSTEM_FAILURE = 125
INTERRUPTED = 130


class CommandFailure(Exception):
    """Ends the command with `exit_code`; the text says what failed and what to do next."""

    exit_code = SYSTEM_FAILURE


class UsageFailure(CommandFailure):
    """The command line, or a file that it names, cannot be read or asks for what is not supported."""

    exit_code = USAGE_FAILURE


class NodeFailure(CommandFailure):
    """The node refused a call, failed or did not answer.

    `reason` is the name from google.rpc.ErrorInfo, empty where the node gave none. `answered` is False where
    no node answered at all, so that the call may be made again.
    """

    def __init__(self, message: str, *, reason: str = "", answered: bool = True) -> None:
        super().__init__(message)
        self.reason = reason
        self.answered = answered

    @property
    def passing(self) -> bool:
        """The node went away and may come back: what it has accepted is on its disk."""
        return not self.answered or self.reason == "SHUTTING_DOWN"
