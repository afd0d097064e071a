"""The exception for user errors: commands print its message without traceback and exit with code 2."""


class UserError(Exception):
    """An error that the user can correct: the message says what was found, what was expected and what to do."""
