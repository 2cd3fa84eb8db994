"""How doors ask actors: bounded waits, and errors that a caller can act on.

I1  Every ask ends: with an answer, ``RefusedError``, or ``UnavailableError`` with a time to retry.

Not here: what is asked, and of whom (``gateway``, ``run_gateway``).
"""

from collections.abc import Callable
from typing import Any, Final

import attrs
import trio

from jobengine.actors.node_state import LedgerState, LoadState
from jobengine.actors.runtime.address import ActorStoppedError, Address, AskTimeoutError, OpenAsk
from jobengine.actors.runtime.mailbox import MailboxClosedError, MailboxFullError
from jobengine.actors.store_trouble import told_of
from jobengine.domain.errors import ErrorCode, Refusal, RefusedError

__all__ = ["Asking", "UnavailableError"]

_NOT_ANSWERED: Final = (
    MailboxFullError, AskTimeoutError, ActorStoppedError, MailboxClosedError
)  # fmt: skip
_SLOW_S: Final = 1.0
"""A commit that is under way for longer is what a request was waiting for."""
_SHEDDING_RETRY_S: Final = 5
"""A level holds for some seconds, so whoever comes again before meets it again."""


class UnavailableError(Exception):
    """Not now: the engine is overloaded, starting, stopping, or its database is away.

    Whether a request that had been sent took effect is unknown; an idempotency key settles it.
    """

    def __init__(self, code: ErrorCode, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.refusal = Refusal(code, message)
        self.retry_after_s = retry_after_s


@attrs.frozen
class Asking:
    """``timeout_s`` bounds every wait for a decision and its commit."""

    ledger: LedgerState
    load: LoadState
    timeout_s: float

    async def ask(self, owner: Address[Any], build: Callable[[int], object]) -> Any:
        """Ask the owner of a decision. Raises ``RefusedError``, `UnavailableError`."""
        self.check_away()
        try:
            answer = await owner.ask(build, self.timeout_s)
        except _NOT_ANSWERED as error:
            raise self._unavailable(error) from None
        if isinstance(answer, Refusal):
            self._note_refusal(answer)
            raise RefusedError(answer)
        return answer

    def ask_nowait(
        self,
        owner: Address[Any],
        build: Callable[[int], object],
        answered: Callable[[Any], None],
    ) -> OpenAsk | None:
        """Like `ask`, but the answer, or the refusal, is called back: once, within a step of the
        engine. What cannot be asked is answered before this returns, which is None then."""

        def tell(answer: Any, error: Exception | None) -> None:
            if error is not None:
                if not isinstance(error, _NOT_ANSWERED):
                    raise error
                answer = self._unavailable(error).refusal
            self._note_refusal(answer)
            answered(answer)

        try:
            return owner.ask_nowait(build, tell)
        except _NOT_ANSWERED as error:
            answered(self._unavailable(error).refusal)
        return None

    def check_away(self) -> None:
        """Raises `UnavailableError`, which says why, while nothing can be committed."""
        if self.ledger.away_since_mono is not None:
            told = told_of(self.ledger.trouble)
            raise UnavailableError(ErrorCode.STORE_UNAVAILABLE, told.message, told.retry_after_s)

    def check_new_work(self) -> None:
        """Raises `UnavailableError` while the node takes no new work."""
        self.check_away()
        if self.load.level == "shedding":
            self.load.sheds["load"] += 1
            raise UnavailableError(
                ErrorCode.OVERLOADED,
                "the engine is overloaded and takes no new work for now; retry later",
                _SHEDDING_RETRY_S,
            )

    def _note_refusal(self, answer: object) -> None:
        if isinstance(answer, Refusal) and answer.code is ErrorCode.BACKLOG_FULL:
            self.load.sheds["backlog"] += 1

    def _unavailable(self, error: Exception) -> UnavailableError:
        if isinstance(error, MailboxFullError):
            self.load.sheds["mailbox"] += 1
            return UnavailableError(
                ErrorCode.OVERLOADED, "too many requests are waiting; retry later", 1
            )
        return UnavailableError(
            ErrorCode.STORE_UNAVAILABLE,
            f"no answer in time{self._cause()}; the request may still take effect: "
            "repeat it with the same Idempotency-Key",
            2,
        )

    def _cause(self) -> str:
        """What kept a request that was waiting, as far as that is known."""
        if self.ledger.away_since_mono is not None:
            return f", for {told_of(self.ledger.trouble).message.removesuffix('; retry later')}"
        since_mono = self.ledger.behind_since_mono
        slow_s = 0.0 if since_mono is None else trio.current_time() - since_mono
        if slow_s > _SLOW_S:
            return f", for the database is slow: changes wait for {slow_s:.0f} s"
        return ""
