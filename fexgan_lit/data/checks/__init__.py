"""The data doctor: what a prepared data set holds, what is wrong with it, and what to do."""

from fexgan_lit.data.checks.finding import Finding
from fexgan_lit.data.checks.run import Diagnosis, examine

__all__ = ["Diagnosis", "Finding", "examine"]
