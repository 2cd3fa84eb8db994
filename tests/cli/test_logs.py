"""No secret reaches the log of a process, whichever way it was logged."""

import json
import logging
import os
import re
from collections.abc import Iterator

import pytest
import structlog

from jobengine.cli.logs import log_to_stderr
from jobengine.domain.redaction import Redactor, stand_in

GITHUB = "ghp_" + "a1B2" * 9


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def _fail() -> None:
    password = "hunter2"
    raise ConnectionError(f"postgresql://bob:{password}@db/jobs does not answer")


def test_events_messages_and_tracebacks_lose_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("info", Redactor(names=frozenset({"pin"})))
    log = structlog.get_logger("jobengine.test")
    log.info(
        "asked", token=GITHUB, pin=4711, details={"apiKey": "k", "n": 1}, error=KeyError(GITHUB)
    )
    logging.getLogger("other").warning("with %s", f"Bearer {GITHUB}")
    try:
        _fail()
    except ConnectionError:
        log.exception("failed")
    written = capsys.readouterr().err
    asked, warned, failed = [json.loads(line) for line in written.splitlines()]
    assert asked["token"] == stand_in(GITHUB)
    assert asked["pin"] == stand_in("4711")
    assert asked["details"] == {"apiKey": stand_in("k"), "n": 1}
    assert asked["error"] == f"KeyError('{stand_in(GITHUB)}')"
    assert warned["event"] == f"with Bearer {stand_in(GITHUB)}"
    assert f"bob:{stand_in('hunter2')}@db" in failed["exception"]
    assert GITHUB not in written
    assert "bob:hunter2" not in written


def test_what_holds_no_secret_is_logged_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("info")
    structlog.get_logger("jobengine.test").info("serving", http="http://127.0.0.1:7070", on=True)
    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["level"], event["http"], event["on"]) == (
        "serving", "info", "http://127.0.0.1:7070", True,
    )  # fmt: skip


def test_what_a_tenant_wrote_does_not_steer_the_terminal_of_a_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = os.openpty()
    with open(theirs, "w") as terminal, open(ours, "rb", buffering=0) as shown:  # noqa: PTH123
        monkeypatch.setattr("sys.stderr", terminal)
        log_to_stderr("info")
        log = structlog.get_logger("jobengine.test")
        log.info("said\x1b]0;evil\x07", by="\x1b[2J", of={"a": "\x1b[2J"}, twice="a\x9b2J b")
        try:
            raise ValueError("\x1b[2J")
        except ValueError:
            log.exception("failed")
        terminal.flush()
        read = b""
        while not re.search(b"ValueError.*\n", read):
            read += shown.read(65_536)
    written = read.decode()
    assert "by\x1b[0m=\x1b[35m�[2J" in written
    assert "Traceback (most recent call last):\r\n" in written
    assert not re.search("\x1b(?!\\[[0-9;]*m)|[\x07\x80-\x9f]", written)
