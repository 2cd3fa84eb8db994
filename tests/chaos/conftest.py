"""The stage on which these tests run real processes."""

from tests.end_to_end.processes import stage

__all__ = ["stage"]
