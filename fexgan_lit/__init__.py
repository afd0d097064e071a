"""Train, compare, measure and use facial-expression synthesis systems.

``load`` gives a trained run in Python; see `fexgan_lit.inference.loaded_system`.
"""

from typing import TYPE_CHECKING, Any

from fexgan_lit.utils.version import __version__

if TYPE_CHECKING:
    from fexgan_lit.inference.loaded_system import LoadedSystem, load

__all__ = ["LoadedSystem", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """`load` and `LoadedSystem` when they are first asked for: they import torch, which `--help` does not need."""
    if name in ("load", "LoadedSystem"):
        from fexgan_lit.inference import loaded_system

        return getattr(loaded_system, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
