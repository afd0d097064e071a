"""The studio of procedural characters: the embedded default data set."""

from fexgan_lit.data.studio.studio import CartoonStudio

__all__ = ["CartoonStudio"]
