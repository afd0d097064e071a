"""Studios: data sets that are rendered on demand, with exact ground truth."""

from fexgan_lit.synthetic.cartoon.studio import CartoonStudio
from fexgan_lit.synthetic.human.studio import HumanStudio

__all__ = ["CartoonStudio", "HumanStudio"]
