"""The one kind of error that a person is meant to read."""


class UserError(Exception):
    """An error whose text is one clear line: what failed, on which object, what to do; a command ends with it.

    Attributes:
        exit_status: 1 failed, 2 used wrongly.
    """

    exit_status = 1


class UsedWrongly(UserError):
    """Something that was given (an argument, a setting, a file) cannot be used; the text says which, and what can."""

    exit_status = 2
