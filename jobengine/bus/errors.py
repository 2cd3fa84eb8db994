"""What may be wrong with a bus.

Neither error holds a password, nor the body of a message.
"""

__all__ = ["BusAwayError", "BusUnusableError"]


class BusAwayError(Exception):
    """The server cannot be reached, went away, or refuses what the engine needs of it. It is tried
    again; the text, one line, says why."""


class BusUnusableError(Exception):
    """The bus is set up in a way that no waiting mends; the text, one line, ends in the remedy."""
