"""A worker's token: where it comes from, and how long to bear that it is refused.

A token given as text stays as it is. A file or a function is asked again at every connection, so
whoever renews the token need not restart the worker.

I1  A worker that was never let in gives up at its first refusal.
I2  One that was let in goes on for `patience_s`, as long as there may be another answer: a token of
    the same text that has expired or was revoked has none.

Not here: connections (`transport`).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import attrs

__all__ = ["Bearer", "Standing", "TokenSource", "TokenUnavailableError", "token_source"]

TokenSource: TypeAlias = str | Path | Callable[[], str]
"""A token, a file that holds one, or a function that gives one and may block for a while."""

_TOKEN_CHARACTERS_MAX: Final = 16_384


class TokenUnavailableError(Exception):
    """The source gives no token now; the message says why."""


def token_source(
    token: str | Callable[[], str] | None, token_file: str | Path | None
) -> TokenSource | None:
    """What was given, or else the file of JOBENGINE_TOKEN_FILE or the token of JOBENGINE_TOKEN.

    Raises `ValueError` for a token and a file at once.
    """
    if token and token_file:
        raise ValueError("give a token or a token_file, not both")
    if token:
        return token.strip() if isinstance(token, str) else token
    file = token_file or os.environ.get("JOBENGINE_TOKEN_FILE")
    return Path(file) if file else os.environ.get("JOBENGINE_TOKEN", "").strip() or None


class Bearer:
    """`renewable`: whether the next reading may give another token."""

    def __init__(self, source: TokenSource | None) -> None:
        self._source = source
        self.renewable = source is not None and not isinstance(source, str)

    def read(self) -> str | None:
        """The token as it is now; None without one. Blocks on a file or function.

        Raises `TokenUnavailableError`.
        """
        source = self._source
        if source is None or isinstance(source, str):
            return source
        if isinstance(source, Path):
            return _read_file(source)
        try:
            token: object = source()
        except Exception as error:
            raise TokenUnavailableError(f"the token function failed: {error!r}") from error
        if not isinstance(token, str):
            raise TokenUnavailableError(
                f"the token function gave {type(token).__name__}, not a text"
            )
        return _only_word(token, "the token function gave no token")


def _read_file(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_TOKEN_CHARACTERS_MAX)
    except OSError as error:
        raise TokenUnavailableError(f"token file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    return _only_word(text, f"token file {path} does not hold one token and nothing else")


def _only_word(text: str, otherwise: str) -> str:
    words = text.split()
    if len(words) != 1:
        raise TokenUnavailableError(otherwise)
    return words[0]


@attrs.define
class Standing:
    """How the engine has taken the token lately. Times are monotonic seconds."""

    renewable: bool
    patience_s: float
    _welcome: bool = False
    _ended: bool = False
    _refused_since: float | None = None

    def accepted(self) -> None:
        """A connection was let in."""
        self._welcome = True
        self._ended = False
        self._refused_since = None

    def ended(self) -> None:
        """The engine closed a session since its token counts no more."""
        self._ended = True

    def refused(self, now: float) -> bool:
        """A connection was refused, or there is no token: whether to give up (I1, I2)."""
        if not self._welcome or (self._ended and not self.renewable):
            return True
        if self._refused_since is None:
            self._refused_since = now
        return now - self._refused_since >= self.patience_s
