"""Train, compare, measure and use facial-expression synthesis systems.

``load`` gives a trained run in Python; see `fexgan_lit.api`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fexgan_lit.api import LoadedSystem, load

__version__ = "0.1.0"
__all__ = ["LoadedSystem", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """`load` and `LoadedSystem` when they are first asked for: they import torch, which a door's --help need not."""
    if name in ("load", "LoadedSystem"):
        from fexgan_lit import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
