"""The ground: what every room stands on. It imports no room, and nothing heavy."""

__version__ = "0.1.0"
