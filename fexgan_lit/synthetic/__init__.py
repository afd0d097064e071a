"""Studios: data sets that are drawn on the spot, with exact ground truth."""

from fexgan_lit.synthetic.cartoon.studio import CartoonStudio
from fexgan_lit.synthetic.human.studio import HumanStudio

__all__ = ["CartoonStudio", "HumanStudio"]
