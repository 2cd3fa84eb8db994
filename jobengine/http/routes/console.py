"""The console's files, from the package: no build step, nothing from elsewhere.

What is served is what the package holds when this module is loaded; a path is looked up and never
joined to a directory, so none leads out of it.

I1  The page answers every address of the console, so that each can be kept, sent and loaded again;
    it is asked for anew each time.
I2  Everything else lies below the digest of all files together. What is at such an address never
    changes, so browsers keep it, and a new release has new addresses.
I3  The content policy lets the page load its own files and speak to its own origin, nothing else;
    and nobody may frame it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.http.answer import Answer
from jobengine.http.front import Front
from jobengine.http.route import OpenRoute

__all__ = ["PAGES", "RELEASE", "ROUTES"]

PAGES: Final = frozenset({"jobs", "runs"})
"""First segments of the console's addresses; the console's router knows what is below them."""

_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FOR_EVER: Final = {**_HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}


def _below(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.is_dir():
            yield from _below(entry, f"{prefix}{entry.name}/")
        elif _suffix(entry.name) in _MEDIA_TYPES:
            yield f"{prefix}{entry.name}", entry.read_bytes()


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]


def _digest(contents: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


_PACKAGE: Final = files("jobengine.http.console")
_FILES: Final = dict(_below(_PACKAGE))
RELEASE: Final = _digest(_FILES)
"""Names all files as they are."""


def _page() -> bytes:
    """Style sheets and modules are named in the head, so that they are fetched side by side."""
    root = f"/console/files/{RELEASE}"
    head = [
        f'<link rel="stylesheet" href="{root}/{name}">'
        if name.endswith(".css")
        else f'<link rel="modulepreload" href="{root}/{name}">'
        for name in _FILES
    ]
    head.append(f'<script type="module" src="{root}/app.js"></script>')
    text = (_PACKAGE / "index.html").read_text("utf-8")
    return text.replace("<!-- files -->", "\n".join(head)).encode()


_PAGE: Final = _page()
_ANEW: Final = {
    **_HEADERS,
    "Cache-Control": "no-cache",
    "ETag": f'"{_digest({"index.html": _PAGE})}"',
}


async def show_page(_: Front) -> Answer:
    return Answer(_PAGE, headers=dict(_ANEW), media_type="text/html; charset=utf-8")


async def show_place(front: Front, place: str) -> Answer:
    """The file of this release at `place`, or the page where `place` is one of its addresses."""
    first, _, rest = place.partition("/")
    if first in PAGES:
        return await show_page(front)
    release, _, name = rest.partition("/")
    if first != "files" or release != RELEASE or name not in _FILES:
        message = "there is nothing at this path"
        raise RefusedError(Refusal(ErrorCode.NOT_FOUND, message, {"path": "place"}))
    media_type = _MEDIA_TYPES[_suffix(name)]
    return Answer(_FILES[name], headers=dict(_FOR_EVER), media_type=media_type)


ROUTES: Final = (
    OpenRoute(
        path="/console",
        name="console",
        summary="The console: a tenant's jobs, runs and events, live",
        handler=show_page,
        answers={200: None},
        described=False,
    ),
    OpenRoute(
        path="/console/{place}",
        name="consolePlace",
        summary="The console at one of its addresses, and its files",
        handler=show_place,
        answers={200: None},
        described=False,
    ),
)
