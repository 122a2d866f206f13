"""Errors that a person reads."""


class UserError(Exception):
    """An error that ends a command. Its text is one line: what failed, on which object, what to do.

    Attributes:
        exit_status: 1: failed; 2: used wrongly.
    """

    exit_status = 1


class UsedWrongly(UserError):
    """An argument, a setting or a file cannot be used. The text names it and says what is expected."""

    exit_status = 2
