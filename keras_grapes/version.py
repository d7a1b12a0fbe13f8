"""The version of the package, read by `setup.py` too."""

__all__ = ["__version__"]

__version__ = "0.1.0"
