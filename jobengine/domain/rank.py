"""The order in which ready jobs of one lane start."""

__all__ = ["rank_of"]


def rank_of(due_at: int, priority: int, ageing_us: int) -> int:
    """The place in a lane: lower goes first.

    A job counts as one priority step higher for each ageing period it has waited. The difference
    between two jobs' ``due_at − priority · period`` never changes, so the order is fixed when they
    become due, and one index holds it.
    """
    return due_at - priority * ageing_us
