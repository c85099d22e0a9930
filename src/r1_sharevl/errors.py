"""The exceptions whose message is all that a user needs to read."""


class UserError(ValueError):
    """A mistake the user can mend: a wrong path, option, value or row.

    The message is one line that says where, what was found and what to do. The CLI prints it without a traceback and
    exits with code 2; every other exception is a failure while running and exits with code 1.
    """


class RunError(RuntimeError):
    """A failure while running that is nobody's mistake: a full disk, a server that is gone.

    The message is one line that says what failed, what is safe, and how to go on. The CLI prints it without a traceback
    and exits with code 1.
    """


class StoppedError(RuntimeError):
    """A run that was asked to stop by a signal, and did so in order.

    The message is one line that says how to go on; it is empty on all processes but the first. The CLI prints it
    without a traceback and exits with `exit_code`.

    Attributes:
        exit_code: 128 plus the signal's number, as a shell says it: 143 for SIGTERM, 130 for SIGINT.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
