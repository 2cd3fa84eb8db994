"""The upstream of the demo over real HTTP: it serves, refuses for a while, and ends."""

import httpx
import pytest

from jobengine.demo.fetch import UpstreamRefusedError, fetch
from jobengine.demo.stub_upstream import Upstream, serve

SHARDS = {"ghsa": (b'{"a": 1}', b'{"b": 2}'), "pyup": (b'{"c": 3}',)}


class SettableClock:
    """Monotonic seconds that move when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def upstream(clock: SettableClock) -> Upstream:
    return Upstream(
        shards=SHARDS, throttled_source="pyup", throttle_s=3.0, retry_after_s=2, clock=clock
    )


def test_the_throttled_source_answers_429_until_its_time_is_over() -> None:
    clock = SettableClock()
    with serve(upstream(clock)) as served:
        clock.now += 50.0
        for waited_s in (0.0, 2.9):
            clock.now += waited_s
            with pytest.raises(UpstreamRefusedError, match="answered 429") as refused:
                fetch(f"{served.url}/pyup/shards/0")
            assert (refused.value.http_status, refused.value.retry_after_s) == (429, 2.0)
        clock.now += 0.1
        assert fetch(f"{served.url}/pyup/shards/0") == b'{"c": 3}'
        assert (served.refused["pyup"], served.served["pyup"]) == (2, 1)


def test_another_source_is_served_meanwhile() -> None:
    with serve(upstream(SettableClock())) as served:
        with pytest.raises(UpstreamRefusedError):
            fetch(f"{served.url}/pyup/shards/0")
        assert fetch(f"{served.url}/ghsa/shards/1") == b'{"b": 2}'
        assert served.refused.total() == 1


@pytest.mark.parametrize("path", ["/ghsa/shards/2", "/ghsa/shards/-1", "/nvd/shards/0", "/"])
def test_an_unknown_shard_is_404_and_not_counted(path: str) -> None:
    with serve(upstream(SettableClock())) as served:
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            fetch(f"{served.url}{path}")
        assert served.served.total() + served.refused.total() == 0


def test_the_server_ends_with_its_block() -> None:
    with serve(upstream(SettableClock())) as served:
        url = f"{served.url}/ghsa/shards/0"
        assert fetch(url) == b'{"a": 1}'
    with pytest.raises(httpx.ConnectError):
        fetch(url)
