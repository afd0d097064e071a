"""The options of `explore`, with their validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any

from fexgan_lit.inference.config import LIBRARY
from fexgan_lit.utils.hardware import device_problems
from fexgan_lit.utils.options import Options, checked_options, option

#: Hosts that other machines cannot reach.
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass
class ExploreSettings(Options):
    """Content and address of the page; `conf/explore.yaml` explains each field."""

    run: str | None = None
    other: str | None = None
    port: int = option(7860, "a number from 1 to 65535, or 0 for any that is free", at_least=0, at_most=65535)
    host: str = "127.0.0.1"
    share: bool = False
    device: str = "auto"
    library: str = LIBRARY

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach the page."""
        return self.host in LOOPBACK and not self.share

    def conflicts(self) -> list[str]:
        """Return a sentence for each combination of valid values that is not allowed."""
        found = []
        if not self.host.strip():
            found.append("host is empty: expected 127.0.0.1 for this machine only, 0.0.0.0 for the whole network")
        found += device_problems(self.device)
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
    return checked_options(ExploreSettings, {name: value for name, value in tree.items() if name in own}, "")
