"""What a worker shows to be let in, and what it makes of a no.

Invariants
    I1  A connection that is not to be had is logged with what to do, once for each reason.
    I2  `rejected` is set once, when the token is refused for good; nothing is dialled after that.

Deliberately not here: tokens and how long a refused one is shown (`bearer`), dialling (`transport`,
`dialling`).
"""

from collections.abc import Callable, Sequence
from typing import Final

import trio

from jobengine.sdk.bearer import Bearer, Standing, TokenUnavailableError
from jobengine.sdk.channel import ChannelClosedError
from jobengine.sdk.commands import Notice
from jobengine.sdk.dialling import CONNECT_S_MAX, HandshakeRefusedError, host_of
from jobengine.sdk.exchange import Answer, error_of
from jobengine.sdk.header_octets import UnsendableError, octets_of
from jobengine.wire.frames import CLOSE_TOKEN_ENDED

__all__ = ["Admittance", "WorkerRejectedError"]

_POLICY_VIOLATION: Final = 1008


class WorkerRejectedError(Exception):
    """The worker's token is refused, or there is none, and that will not change by itself.

    `http_status` is None when there was no token to show.
    """

    def __init__(self, why: str, http_status: int | None = None) -> None:
        super().__init__(why)
        self.http_status = http_status


class Admittance:
    """See the module. `headers` are sent besides the token; raises `UnsendableError` where they
    cannot be. A refused token that may yet be renewed is shown again for `refused_s_max`; `show`
    takes what the operator of the worker should see."""

    def __init__(
        self,
        bearer: Bearer,
        headers: Sequence[tuple[str, str]],
        refused_s_max: float,
        show: Callable[[Notice], None],
    ) -> None:
        self._bearer = bearer
        self._headers = octets_of(dict(headers))
        self._standing = Standing(bearer.renewable, refused_s_max)
        self._show = show
        self._warned = ""
        self.rejected: WorkerRejectedError | None = None

    async def headers_now(self) -> list[tuple[bytes, bytes]]:
        """A handshake's headers, with the token as it is now. Raises `TokenUnavailableError`."""
        read = self._bearer.read
        try:
            with trio.fail_after(CONNECT_S_MAX):
                token = (
                    await trio.to_thread.run_sync(read, abandon_on_cancel=True)
                    if self._bearer.renewable
                    else read()
                )
        except trio.TooSlowError:
            raise TokenUnavailableError("the token function did not answer in time") from None
        if token is None:
            return self._headers
        try:
            return [*octets_of({"Authorization": f"Bearer {token}"}), *self._headers]
        except UnsendableError as error:
            raise TokenUnavailableError(str(error)) from None

    def let_in(self) -> None:
        """The handshake has been taken."""
        self._standing.accepted()
        self._warned = ""

    def no_token(self, why: str, welcomed_ever: bool) -> None:
        """There is none to show."""
        self._refused(why, welcomed_ever)

    def no_upgrade(self, url: str, refusal: HandshakeRefusedError, welcomed_ever: bool) -> None:
        """The engine has answered the handshake with a status."""
        status = refusal.http_status
        error = error_of(Answer(status, {}, refusal.body))
        if status in (401, 403):
            self._refused(f"HTTP {status}: {error.message}", welcomed_ever, status)
        else:
            self.no_connection(url, f"HTTP {status}: {error.message}")

    def no_connection(self, url: str, why: str) -> None:
        self._warn_once(f"no connection to {host_of(url)}: {why}")

    def closed(self, how: ChannelClosedError) -> None:
        """A connection that was let in has been closed by the engine."""
        if how.code not in (CLOSE_TOKEN_ENDED, _POLICY_VIOLATION):
            return
        if how.code == CLOSE_TOKEN_ENDED:
            self._standing.ended()
        why = how.reason or how.code
        self._show(Notice("warning", f"the engine closed the connection: {why}; dialling again"))

    def _refused(self, why: str, welcomed_ever: bool, http_status: int | None = None) -> None:
        """Give up, or say that it is tried again."""
        if not self._standing.refused(trio.current_time()):
            self._warn_once(
                f"the engine does not let this worker in ({why}); its token is tried again for "
                f"{self._standing.patience_s:g} s"
            )
            return
        advice = ""
        if welcomed_ever and not self._bearer.renewable:
            advice = "; give one that is renewed as token_file, JOBENGINE_TOKEN_FILE or a function"
        what = f"the engine does not let this worker in: {why}{advice}"
        self._show(Notice("error", what))
        self.rejected = WorkerRejectedError(what, http_status)

    def _warn_once(self, text: str) -> None:
        if text != self._warned:
            self._warned = text
            self._show(Notice("warning", text))
