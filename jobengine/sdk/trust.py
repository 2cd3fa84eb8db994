"""Which certificate authorities a client believes, and what to do where TLS fails."""

import os
import ssl
from pathlib import Path
from typing import Final

import trio

__all__ = ["TrustUnusableError", "explain", "trusted"]

_ADVICE: Final = {
    "UNKNOWN_CA": "the engine does not know who signed this worker's certificate: use one that an "
    "authority of its --tls-client-ca has signed",
    "CERTIFICATE_EXPIRED": "this worker's certificate has expired: renew it",
    "WRONG_VERSION_NUMBER": "the port speaks no TLS: use ws://, or correct the port",
    "RECORD_LAYER_FAILURE": "the port speaks no TLS: use ws://, or correct the port",
}
"""By what OpenSSL's reason ends with; alerts have a prefix that names a version."""

_CUT: Final = (
    "the engine cut the connection during the TLS handshake: where it takes workers with a "
    "certificate only, give Worker(tls=…) an ssl.SSLContext with one that an authority of its "
    "--tls-client-ca has signed"
)
_CUT_REASONS: Final = ("UNEXPECTED_EOF_WHILE_READING", "CERTIFICATE_REQUIRED")


class TrustUnusableError(ValueError):
    """The file of authorities cannot be used; the message names it and says why."""


def trusted(ca_file: str | Path | None = None) -> ssl.SSLContext | None:
    """A context that trusts the authorities of this PEM file and no others; by default of the file
    that JOBENGINE_CA_FILE names. None when neither is given. Raises `TrustUnusableError`."""
    path = ca_file or os.environ.get("JOBENGINE_CA_FILE")
    if not path:
        return None
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise TrustUnusableError(f"CA file {path}: it holds no certificate in PEM form") from None
    except OSError as error:
        raise TrustUnusableError(f"CA file {path}: {error.strerror}") from None


def explain(error: BaseException, *, over_tls: bool) -> str:
    """Why a connection could not be opened, and what to do where that is known, in one line."""
    cause = error
    while not isinstance(cause, ssl.SSLError) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"the engine's certificate is not accepted ({cause.verify_message}): name its "
            "authority in JOBENGINE_CA_FILE or Worker(tls=…)"
        )
    if isinstance(cause, ssl.SSLError):
        reason = cause.reason or "TLS failed"
        if reason.endswith(_CUT_REASONS):
            return _CUT
        known = [advice for end, advice in _ADVICE.items() if reason.endswith(end)]
        return f"{known[0]} ({reason})" if known else f"TLS failed ({reason})"
    if isinstance(cause, trio.TooSlowError):
        return "no answer in time"
    # A connection that is reset has been made before; one that is not accepted is another matter.
    if over_tls and isinstance(cause, ConnectionResetError | BrokenPipeError):
        return _CUT
    return str(cause) or type(cause).__name__
