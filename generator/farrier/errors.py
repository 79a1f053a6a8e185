"""Every way in which Farrier ends unhappily, each with its exit code (docs/reference/exit-codes.md)."""

from farrier.wording import printable

LONGEST_MESSAGE = 2_000
"""Characters of one line that the user reads: some quote what others have written."""

MOST_MESSAGES = 100
"""Lines that one command ends with; a file may hold thousands of mistakes."""


class FarrierError(Exception):
    """Ends a command; `messages` are the lines that the user reads, each complete in itself, printable and bounded."""

    exit_code = 1

    def __init__(self, *messages: str) -> None:
        if len(messages) > MOST_MESSAGES:
            messages = (*messages[: MOST_MESSAGES - 1], f"and {len(messages) - MOST_MESSAGES + 1} more")
        self.messages = tuple(printable(message, LONGEST_MESSAGE) for message in messages)
        super().__init__("\n".join(self.messages))


class DriftError(FarrierError):
    """`--check` found that the written tree is not what would be generated."""

    exit_code = 1


class InputError(FarrierError):
    """The input is wrong: project file, workload, option, or a file that must not be overwritten."""

    exit_code = 2


class DoesNotFitError(FarrierError):
    """No plan fits the host, or an override breaks a budget."""

    exit_code = 3


class HostError(FarrierError):
    """A host could not be reached, or its facts are incomplete."""

    exit_code = 4
