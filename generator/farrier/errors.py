"""Every way in which Farrier ends unhappily, each with its exit code (see README, "Exit codes")."""


class FarrierError(Exception):
    """Ends a command; `messages` are the lines that the user reads, each complete in itself."""

    exit_code = 1

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(messages))
        self.messages = messages


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
