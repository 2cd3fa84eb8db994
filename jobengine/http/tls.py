"""Certificates of the listeners, from PEM files; read again when asked to.

I1  What is wrong with a file is one line that names it, before anything listens.
I2  Reading again is all or nothing: with a fault, the certificate in use stays.
I3  TLS 1.2 is the least that is spoken, with the cipher suites that OpenSSL counts as secure.
    Connections keep the certificate that they began with.

Not here: the sockets (`server`, `worker_door`), who a certificate may act as (tokens say that).
"""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificatePublicKeyTypes,
    PrivateKeyTypes,
    PublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from jobengine.actors.runtime.clock import Clock
from jobengine.domain.instant import SECOND

__all__ = ["Tls", "TlsFiles", "TlsRefusedError", "TlsStream", "TlsUnusableError", "shake_hands"]

TlsStream = trio.SSLStream[trio.SocketStream]

_PEER_NAME_CHARACTERS_MAX: Final = 128


class TlsUnusableError(Exception):
    """A certificate or key cannot be used; the message is one line for an operator."""


class TlsRefusedError(Exception):
    """A peer that speaks no TLS, or none that is accepted here."""


@attrs.frozen(kw_only=True)
class TlsFiles:
    """`certificate`: the server's, followed by those in between. `client_ca`: who signs for
    workers; with it, a worker shows a certificate."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class Tls:
    """The contexts of both listeners. Raises `TlsUnusableError` when made of unusable files."""

    def __init__(self, files: TlsFiles, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        self._http, self._worker = self._read()

    @property
    def asks_workers(self) -> bool:
        """Whether a worker has to show a certificate."""
        return self._files.client_ca is not None

    def reload(self) -> None:
        """Read the files again; if one is unusable, raises `TlsUnusableError`, changing nothing."""
        self._http, self._worker = self._read()

    def http(self, stream: trio.SocketStream) -> TlsStream:
        """A connection of the HTTP listener, before its handshake."""
        return trio.SSLStream(stream, self._http, server_side=True, https_compatible=True)

    def worker(self, stream: trio.SocketStream) -> TlsStream:
        """A connection of the workers' listener, before its handshake."""
        return trio.SSLStream(stream, self._worker, server_side=True, https_compatible=True)

    def _read(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        files = self._files
        self._check_pair(files)
        http = _context(files)
        worker = _context(files)
        if files.client_ca is not None:
            for authority in _certificates(files.client_ca):
                self._check_dates(authority, files.client_ca)
            worker.verify_mode = ssl.CERT_REQUIRED
            try:
                worker.load_verify_locations(cafile=files.client_ca)
            except ssl.SSLError as error:
                raise TlsUnusableError(f"{files.client_ca}: not usable ({error.reason})") from None
        return http, worker

    def _check_pair(self, files: TlsFiles) -> None:
        certificate = _certificates(files.certificate)[0]
        key = _key(files.key)
        if _public_bytes(key.public_key()) != _public_bytes(certificate.public_key()):
            raise TlsUnusableError(
                f"{files.key} is not the key of the certificate in {files.certificate}; "
                "name the two that were made together"
            )
        self._check_dates(certificate, files.certificate)

    def _check_dates(self, certificate: x509.Certificate, path: Path) -> None:
        now = datetime.fromtimestamp(self._clock.moment().at / SECOND, UTC)
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now > ends:
            raise TlsUnusableError(f"{path}: the certificate expired on {ends:%Y-%m-%d}; renew it")
        if now < begins:
            raise TlsUnusableError(
                f"{path}: the certificate is valid only from {begins:%Y-%m-%d %H:%M}"
            )


async def shake_hands(stream: trio.SocketStream | TlsStream) -> str | None:
    """Do the handshake where the stream is TLS; the subject of the certificate that the peer
    showed, if it did. Raises `TlsRefusedError`. Cancelled: the stream is of no more use."""
    if not isinstance(stream, trio.SSLStream):
        return None
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError:
        raise TlsRefusedError from None
    shown = stream.getpeercert(binary_form=True)
    if not shown:
        return None
    subject = x509.load_der_x509_certificate(shown).subject.rfc4514_string()
    return subject[:_PEER_NAME_CHARACTERS_MAX]


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.key)
    except ssl.SSLError as error:
        raise TlsUnusableError(f"{files.certificate}: not usable ({error.reason})") from None
    return context


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_content(path))
    except ValueError:
        raise TlsUnusableError(f"{path} holds no certificate in PEM form") from None


def _key(path: Path) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(_content(path), password=None)
    except TypeError:
        raise TlsUnusableError(
            f"{path}: the key is encrypted; store it without a password"
        ) from None
    except ValueError:
        raise TlsUnusableError(f"{path} holds no private key in PEM form") from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsUnusableError(f"{path} cannot be read: {error.strerror}") from None


def _public_bytes(key: PublicKeyTypes | CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
