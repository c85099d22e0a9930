"""The one exception that stands for a mistake of the user's."""


class UserError(ValueError):
    """A mistake the user can mend: a wrong path, option, value or row.

    The message is one line that says where, what was found and what to do. The CLI prints it without a traceback and
    exits with code 2; every other exception is a failure while running and exits with code 1.
    """
