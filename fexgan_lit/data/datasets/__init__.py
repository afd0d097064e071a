"""One module a family of data sets: from the folder of a data set to its FrameTable."""

from fexgan_lit.data.datasets.index import LAYOUTS, index_dataset

__all__ = ["LAYOUTS", "index_dataset"]
