"""The console's files, from the package: no build step, nothing from elsewhere.

The content policy lets the page load its own files and speak to its own origin, nothing else; and
nobody may frame it.
"""

from importlib.resources import files
from typing import Final

from jobengine.http.answer import Answer
from jobengine.http.front import Front
from jobengine.http.route import OpenRoute

__all__ = ["ROUTES"]

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def _file(name: str, media_type: str) -> Answer:
    body = (files("jobengine.http.console") / name).read_bytes()
    return Answer(body, headers=dict(_HEADERS), media_type=media_type)


async def page(_: Front) -> Answer:
    return _file("index.html", "text/html; charset=utf-8")


async def script(_: Front) -> Answer:
    return _file("console.js", "text/javascript; charset=utf-8")


async def style(_: Front) -> Answer:
    return _file("console.css", "text/css; charset=utf-8")


ROUTES: Final = (
    OpenRoute(
        path="/console",
        name="console",
        summary="The console: a tenant's jobs and events, live",
        handler=page,
        answers={200: None},
        described=False,
    ),
    OpenRoute(
        path="/console/console.js",
        name="consoleScript",
        summary="The console's script",
        handler=script,
        answers={200: None},
        described=False,
    ),
    OpenRoute(
        path="/console/console.css",
        name="consoleStyle",
        summary="The console's style sheet",
        handler=style,
        answers={200: None},
        described=False,
    ),
)
