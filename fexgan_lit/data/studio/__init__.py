"""Studios: data sets that are drawn on the spot, with exact ground truth."""

from fexgan_lit.data.studio.cartoon.studio import CartoonStudio

__all__ = ["CartoonStudio"]
