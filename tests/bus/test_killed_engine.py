"""A whole node with PostgreSQL and a bus, killed in mid-flow: cursors and requests survive it."""

from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio

from jobengine.sdk import job_request
from tests.bus.servers import running
from tests.end_to_end.processes import LOOPBACK, PATIENCE_S, Stage, stage, wait_for

__all__ = ["stage"]


def test_a_killed_engine_goes_on_where_the_bus_is(stage: Stage, tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    with running("nats", tmp_path) as server:
        short = "bus_retry_s = 0.5\nask_timeout_s = 1.0\n"
        config.write_text(f'bus_url = "{server.url}"\nbus_jobs = "on"\n{short}')
        flags = ("--config", str(config), *LOOPBACK)

        def events() -> list[dict[str, Any]]:
            return trio.run(server.events, "demo")

        def ask(number: int) -> None:
            body = b'{"jobType":"asked","labels":{"n":"%d"}}' % number
            trio.run(partial(server.request, "demo", body, message_id=str(number)))

        engine = stage.engine(*flags)
        wait_for(
            lambda: "connected to" in httpx.get(f"{engine.http}/readyz").text, PATIENCE_S, "the bus"
        )
        with engine.client() as client:
            client.submit_many([job_request("sent", {"n": n}) for n in range(300)])
            ask(0)
            wait_for(
                lambda: any(_is_asked(event) for event in events()), PATIENCE_S, "the first request"
            )
            client.submit_many([job_request("sent", {"n": n}) for n in range(300)])
            ask(1)
            engine.kill()
        ask(2)
        engine = stage.engine(*flags)
        with engine.client() as client:
            wait_for(
                lambda: len([*client.list(job_type="asked")]) >= 3, PATIENCE_S, "every request"
            )
            wait_for(
                lambda: trio.run(server.requests_left) == 0, PATIENCE_S, "every acknowledgement"
            )
            assert len([*client.list(job_type="asked")]) == 3
            client.submit("last")
            wait_for(
                lambda: events()[-1]["body"]["job"]["type"] == "last", PATIENCE_S, "the last event"
            )
        assert engine.terminate() == 0
        published = events()
    assert [event["body"]["seq"] for event in published] == list(range(1, len(published) + 1))
    created = [
        event["body"]["job"]["type"] for event in published if event["type"] == "job.created"
    ]
    assert [created.count(each) for each in ("sent", "asked", "last")] == [600, 3, 1]


def _is_asked(event: dict[str, Any]) -> bool:
    return event["body"]["job"]["type"] == "asked"
