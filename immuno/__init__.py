"""The front door of immuno-vlm: command line, configuration, shared records and errors."""

__version__ = "0.1.0"
