"""The data doctor: checks of a prepared data set, with findings and advice."""

from fexgan_lit.data.checks.finding import Finding
from fexgan_lit.data.checks.run import Diagnosis, examine

__all__ = ["Diagnosis", "Finding", "examine"]
