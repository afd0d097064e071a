"""The exception for user errors: commands print its message without traceback and exit with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can correct: the message says what was found, what was expected and what to do."""


def did_you_mean(word: object, known: Iterable[str], prefix: str = "") -> str:
    """Return `` Did you mean NAME?`` with the name of `known` nearest to `word`; empty if none is near."""
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f" Did you mean {prefix}{near[0]}?" if near else ""
