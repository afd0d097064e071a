"""The version of the package, where everything that prints it can import it."""

__version__ = "0.1.0"
