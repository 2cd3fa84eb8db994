"""Chance: random numbers and identifiers, from the system or from a seed.

Identifiers are UUID version 7 (RFC 9562 §5.7): 48 bits of milliseconds, then 12 bits of the
fraction of that millisecond (§6.2 method 3), then 62 random bits which, for a second identifier
at the same tick, count on by a random step (§6.2 method 2).

I1  Identifiers of one `Dice` strictly increase, as numbers and as text, also when the wall clock
    steps back: the last tick is then kept.
I2  The first identifier at a tick carries 61 fresh random bits, so nodes need not coordinate.
I3  Identifiers made together are those that would have been made one by one.

An identifier is unique, not secret: those made in one batch are near to each other. Secrets come
from `randbytes` of `SystemDice`. A `Dice` belongs to one thread.
"""

import os
import random
import struct
from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate
from typing import Final, Protocol

_TICKS_PER_MILLISECOND: Final = 4096
_WORDS: Final = struct.Struct("<1024I")
_RANDOM_PART_END: Final = 1 << 62
_LOW_BITS: Final = 48
_VARIANT: Final = 0b10 << 62


class Dice(Protocol):
    def random(self) -> float:
        """Uniform in [0, 1)."""
        ...

    def randbytes(self, n: int) -> bytes: ...

    def uuid7(self, at: int, /) -> str:
        """A fresh identifier of 36 characters for the instant `at` (UTC microseconds)."""
        ...

    def uuid7s(self, at: int, count: int, /) -> list[str]:
        """So many of them, in their order (I3)."""
        ...


class _Uuid7:
    """The state of identifier making: the last instant, its tick and text, the last random part.

    Chance is drawn in blocks of 32-bit words, as a system call an identifier would cost more than
    all the rest.
    """

    __slots__ = ("_at", "_prefix", "_randbytes", "_random_part", "_tick", "_words")

    def __init__(self, randbytes: Callable[[int], bytes]) -> None:
        self._randbytes = randbytes
        self._words: list[int] = []
        self._at = -1
        self._tick = -1
        self._random_part = 0
        self._prefix = ""

    def make(self, at: int, /) -> str:
        if at > self._at:
            self._at = at
            milliseconds, micros = divmod(at, 1_000)
            tick = milliseconds * _TICKS_PER_MILLISECOND + micros * _TICKS_PER_MILLISECOND // 1_000
            if tick > self._tick:
                self._begin(tick)
                return self._text()
        if not self._words:
            self._refill()
        self._random_part += 1 + self._words.pop()
        if self._random_part >= _RANDOM_PART_END:
            self._begin(self._tick + 1)
        return self._text()

    def make_many(self, at: int, count: int, /) -> list[str]:
        made: list[str] = []
        while (wanted := count - len(made)) > 0:
            made.append(self.make(at))
            if wanted == 1:
                break
            last = _VARIANT | self._random_part
            steps = [1 + word for word in self._words[:-wanted:-1]]
            parts = list(accumulate(steps, initial=last))
            alike = bisect_left(parts, ((last >> _LOW_BITS) + 1) << _LOW_BITS)
            if alike > 1:
                del self._words[1 - alike :]
                self._random_part = parts[alike - 1] ^ _VARIANT
                made += self._texts(parts[1:alike])
        return made

    def _texts(self, tails: list[int]) -> list[str]:
        """Identifiers of this tick whose last 64 bits are these and begin with the same 16."""
        digits = struct.pack(f">{len(tails)}Q", *tails).hex("\n", 8)
        begin = f"\n{digits[:4]}"
        return f"\n{digits}".replace(begin, f"\n{self._prefix}{begin[1:]}-")[1:].split("\n")

    def _text(self) -> str:
        tail = f"{_VARIANT | self._random_part:016x}"
        return f"{self._prefix}{tail[:4]}-{tail[4:]}"

    def _begin(self, tick: int) -> None:
        if len(self._words) < 2:
            self._refill()
        words = self._words
        self._tick = tick
        self._random_part = (words.pop() << 32 | words.pop()) >> 3
        head = f"{tick:015x}"
        self._prefix = f"{head[:8]}-{head[8:12]}-7{head[12:]}-"

    def _refill(self) -> None:
        self._words = list(_WORDS.unpack(self._randbytes(_WORDS.size)))


class SystemDice:
    """The kernel's randomness. Not for use after a fork: both processes would draw alike."""

    __slots__ = ("_source", "uuid7", "uuid7s")

    def __init__(self) -> None:
        self._source = random.SystemRandom()
        ids = _Uuid7(os.urandom)
        self.uuid7: Callable[[int], str] = ids.make
        self.uuid7s: Callable[[int, int], list[str]] = ids.make_many

    def random(self) -> float:
        return self._source.random()

    def randbytes(self, n: int) -> bytes:
        return os.urandom(n)


class SeededDice:
    """Chance that repeats: equal seeds and equal calls give equal results. For simulation only."""

    __slots__ = ("_source", "uuid7", "uuid7s")

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)
        ids = _Uuid7(self._source.randbytes)
        self.uuid7: Callable[[int], str] = ids.make
        self.uuid7s: Callable[[int, int], list[str]] = ids.make_many

    def random(self) -> float:
        return self._source.random()

    def randbytes(self, n: int) -> bytes:
        return self._source.randbytes(n)
