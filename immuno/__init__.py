"""The roof: the Python API, the commands, and what puts the rooms together."""

from immuno_core import __version__

__all__ = ["__version__"]
