"""Studios: data sets that are rendered on demand, with exact ground truth."""

from fexgan_lit.synthetic.cartoon.studio import CartoonStudio
from fexgan_lit.synthetic.human.studio import HumanStudio
from fexgan_lit.synthetic.mixed import MixedStudio

__all__ = ["CartoonStudio", "HumanStudio", "MixedStudio"]
