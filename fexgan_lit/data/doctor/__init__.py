"""The data doctor: what a prepared data set holds, what is wrong with it, and what to do."""

from fexgan_lit.data.doctor.examine import Diagnosis, examine
from fexgan_lit.data.doctor.finding import Finding

__all__ = ["Diagnosis", "Finding", "examine"]
