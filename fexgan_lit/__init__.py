"""Train, compare, measure and use facial-expression synthesis systems."""

__version__ = "0.1.0"
