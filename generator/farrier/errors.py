"""Farrier's errors, each with its exit code (docs/reference/exit-codes.md)."""

from farrier.wording import printable

LONGEST_MESSAGE = 2_000
"""Characters of one message: some quote text from outside."""

MOST_MESSAGES = 100
"""Messages of one command; a file may contain thousands of mistakes."""


EXIT_CODES = {
    0: "done",
    1: "`generate --check` found a difference",
    2: "the input is wrong: project file, workload, option, or a file that must not be overwritten",
    3: "no plan fits a host, or an override breaks a budget",
    4: "a host could not be reached, its facts are incomplete, or a load test was inconclusive",
}
"""How commands end, but for Ctrl-C, which ends them with 130."""


class FarrierError(Exception):
    """Ends a command; `messages` are the lines shown to the user, each self-contained, printable and bounded."""

    exit_code: int

    def __init__(self, *messages: str) -> None:
        if len(messages) > MOST_MESSAGES:
            messages = (*messages[: MOST_MESSAGES - 1], f"and {len(messages) - MOST_MESSAGES + 1} more")
        self.messages = tuple(printable(message, LONGEST_MESSAGE) for message in messages)
        super().__init__("\n".join(self.messages))


class InputError(FarrierError):
    """The input is wrong: project file, workload, option, or a file that must not be overwritten."""

    exit_code = 2


class DoesNotFitError(FarrierError):
    """No plan fits the host, or an override breaks a budget."""

    exit_code = 3


class HostError(FarrierError):
    """A host could not be reached, or its facts are incomplete."""

    exit_code = 4
