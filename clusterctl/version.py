"""The one place that states the version; hatch and the wire handshake read it."""

__version__ = "0.1.0"
