"""Validated options of `explore`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any

from fexgan_lit.inference.config import DEVICES
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import typed

#: Hosts that other machines cannot reach.
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass
class ExploreSettings:
    """Content and address of the page; `conf/explore.yaml` explains each field."""

    run: str | None = None
    other: str | None = None
    port: int = 7860
    host: str = "127.0.0.1"
    share: bool = False
    device: str = "auto"

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach the page."""
        return self.host in LOOPBACK and not self.share

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        found = []
        if not 0 <= self.port <= 65535:
            found.append(f"port={self.port}: expected a number from 1 to 65535, or 0 for any that is free")
        if not self.host.strip():
            found.append("host is empty: expected 127.0.0.1 for this machine alone, 0.0.0.0 for the whole network")
        if self.device not in DEVICES:
            found.append(f"device={self.device}: expected one of {', '.join(DEVICES)}")
        if self.share and find_spec("gradio") is None:
            found.append(
                "share=true: Gradio is not installed; pip install 'fexgan_lit[share]', or leave share=false and open "
                "the page on this machine"
            )
        return found


def explore_settings(tree: Mapping[str, Any]) -> ExploreSettings:
    """Return the validated options of the composed configuration.

    Raises:
        UserError: one message that lists every invalid value.
    """
    own = {field.name for field in fields(ExploreSettings)}
    problems: list[str] = []
    settings = typed(ExploreSettings, {name: value for name, value in tree.items() if name in own}, "", problems)
    problems = [problem.removeprefix(".") for problem in problems] or settings.problems()
    if problems:
        raise UserError("the options cannot be used:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return settings
