"""Chance of a simulated run: one seed, and a stream of its own for whoever draws.

I1  What one draws does not move what another draws: streams are forked by name, not drawn from each
    other. So a run changes little when one more draw is added somewhere.
"""

import hashlib
import random

__all__ = ["Chance"]


class Chance:
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def fork(self, *name: object) -> random.Random:
        """The stream of this name; asked for again it begins anew."""
        text = "/".join(map(str, (self.seed, *name)))
        return random.Random(hashlib.sha256(text.encode()).digest())
