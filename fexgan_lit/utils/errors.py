"""The one exception for a user's mistake: the commands turn it into exit code 2 and a message without traceback."""


class UserError(Exception):
    """Something the user can mend: the message names what was found, what was expected and what to do."""
