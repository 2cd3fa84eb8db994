"""The metrics of a node, parsed as Prometheus parses them."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from jobengine.http.metrics import metrics_of
from jobengine.http.worker_door import DoorStatistics
from jobengine.testing import memory_engine
from tests.actors.bare_worker import TENANT, new_job, submit

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
BOUNDED_LABELS = {
    "actor",
    "cause",
    "key",
    "kind",
    "node",
    "outcome",
    "reason",
    "shard",
    "state",
    "tenant",
    "version",
}


def _samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def test_metrics_show_what_was_committed_and_what_waits() -> None:
    async with memory_engine() as engine:
        render = metrics_of(engine, DoorStatistics())
        before = _samples(await render())
        assert ("jobengine_ready_jobs", frozenset({("tenant", TENANT)})) not in before
        for _ in range(3):
            await submit(engine, new_job(engine))
        after = _samples(await render())
    created = frozenset({("kind", "job.created")})
    assert after["jobengine_transitions_total", created] == 3
    assert after["jobengine_ready_jobs", frozenset({("tenant", TENANT)})] == 3
    assert after["jobengine_ledger_commits_total", frozenset()] >= 1
    assert after["jobengine_ledger_away_seconds", frozenset()] == 0
    taken = frozenset({("actor", "ledger")})
    assert (
        after["jobengine_mailbox_messages_total", taken]
        > before["jobengine_mailbox_messages_total", taken]
    )
    assert after["jobengine_process_resident_memory_bytes", frozenset()] > 1 << 20


DATABASE_ROLES = {"jobengine_owner", "jobengine_api", "jobengine_ledger"}
ONLY_WITH_ISSUERS = {"jobengine_jwks_failing_seconds"}
ONLY_WITH_A_BUS = "jobengine_bus_"


async def test_names_have_one_prefix_and_labels_are_bounded() -> None:
    async with memory_engine() as engine:
        await submit(engine, new_job(engine))
        samples = _samples(await metrics_of(engine, DoorStatistics())())
    assert all(name.startswith("jobengine_") for name, _ in samples)
    used = {label for _, labels in samples for label, _ in labels}
    assert used - {"implementation"} <= BOUNDED_LABELS


async def test_metrics_that_operators_are_told_to_watch_exist() -> None:
    async with memory_engine() as engine:
        await submit(engine, new_job(engine))
        text = await metrics_of(engine, DoorStatistics())()
    told = set(re.findall(r"`(jobengine_\w+)`", OPERATIONS.read_text()))
    told -= DATABASE_ROLES | ONLY_WITH_ISSUERS
    told = {name for name in told if not name.startswith(ONLY_WITH_A_BUS)}
    assert told
    families = {family.name for family in text_string_to_metric_families(text.decode())}
    assert told <= families | {name for name, _ in _samples(text)}
