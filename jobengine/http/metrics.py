"""What Prometheus reads: the statistics that actors, sessions and doors keep anyway.

Everything is read when it is asked for, so a metric costs nothing while nobody looks. Names start
with `jobengine_`. Labels are bounded by configuration (actor, shard, `metric_keys_max` gates of a
kind) or by the number of tenants; no metric carries a job, a worker or a free text.

What is shown is read at one instant, and then written a family at a time: others run in between.

Not here: what the numbers mean for an operator (`docs/operations.md`), gates (`gate_metrics`).
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final

import trio
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jobengine import __version__
from jobengine.actors.node_state import SHED_REASONS
from jobengine.domain.instant import SECOND
from jobengine.engine import Engine
from jobengine.http.gate_metrics import gate_metrics
from jobengine.http.worker_door import DoorStatistics
from jobengine.messages.load import CAUSES, LEVELS

__all__ = ["metrics_of"]

_PREFIX: Final = "jobengine"


def metrics_of(
    engine: Engine, workers: DoorStatistics, *more: Callable[[], Iterable[Metric]]
) -> Callable[[], Awaitable[bytes]]:
    """A function that renders the metrics of a node, in Prometheus' text format; ``more`` add some.

    To be called from the engine's Trio run. A checkpoint for each family.
    """
    registry = CollectorRegistry()
    registry.register(_EngineCollector(engine, workers, more))
    ProcessCollector(namespace=_PREFIX, registry=registry)

    async def render() -> bytes:
        text = bytearray()
        for family in list(registry.collect()):
            text += _text_of(family)
            await trio.lowlevel.checkpoint()
        return bytes(text)

    return render


def _text_of(family: Metric) -> bytes:
    alone = CollectorRegistry()
    alone.register(_Family(family))
    return generate_latest(alone)


class _Family(Collector):
    """One family that was collected before."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield self._family


class _EngineCollector(Collector):
    def __init__(
        self,
        engine: Engine,
        workers: DoorStatistics,
        more: Sequence[Callable[[], Iterable[Metric]]],
    ) -> None:
        self._more = more
        self._engine = engine
        self._workers = workers

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering reads no statistics."""
        return ()

    def collect(self) -> Iterator[Metric]:
        engine = self._engine
        node = {"version": __version__, "node": engine.settings.node_id}
        yield InfoMetricFamily(f"{_PREFIX}_node", "This engine process", node)
        yield from self._mailboxes()
        yield from self._ledger()
        yield from self._load()
        yield from self._shards()
        yield from self._planners()
        yield from gate_metrics(engine)
        yield from self._sessions()
        yield _gauge("asks_open", "Requests that wait for an actor's answer", len(engine.asks))
        yield _counter(
            "asks_dropped", "Answers that nobody waited for any more", engine.asks.dropped_total
        )
        yield from self._streams()
        yield from self._webhooks()
        for metrics in self._more:
            yield from metrics()

    def _mailboxes(self) -> Iterator[Metric]:
        label = ["actor"]
        depth = GaugeMetricFamily(
            f"{_PREFIX}_mailbox_depth", "Messages that wait for an actor", labels=label
        )
        depth_max = GaugeMetricFamily(
            f"{_PREFIX}_mailbox_depth_max", "Most messages that ever waited", labels=label
        )
        oldest = GaugeMetricFamily(
            f"{_PREFIX}_mailbox_oldest_seconds", "Wait of the oldest message", labels=label
        )
        taken = CounterMetricFamily(
            f"{_PREFIX}_mailbox_messages", "Messages taken by an actor", labels=label
        )
        refused = CounterMetricFamily(
            f"{_PREFIX}_mailbox_refused", "Messages refused: no room, or closed", labels=label
        )
        for mailbox in self._engine.mailboxes:
            box = mailbox.statistics()
            depth.add_metric([mailbox.name], box.depth)
            depth_max.add_metric([mailbox.name], box.depth_max)
            oldest.add_metric([mailbox.name], box.oldest_s)
            taken.add_metric([mailbox.name], box.taken_total)
            refused.add_metric([mailbox.name], box.refused_total)
        yield from (depth, depth_max, oldest, taken, refused)

    def _ledger(self) -> Iterator[Metric]:
        ledger = self._engine.ledger
        state = ledger.state
        since_mono = state.away_since_mono
        away_s = 0.0 if since_mono is None else trio.current_time() - since_mono
        yield _counter("ledger_commits", "Commits to the ledger", state.commits_total)
        yield _counter("ledger_entries", "Entries committed to the ledger", state.entries_total)
        yield _gauge("ledger_last_commit_seconds", "How long a commit took", state.last_commit_s)
        yield _gauge("ledger_away_seconds", "Since when commits fail; 0 when they do not", away_s)
        transitions = CounterMetricFamily(
            f"{_PREFIX}_transitions", "Ledger entries by kind", labels=["kind"]
        )
        for kind, count in sorted(ledger.transitions.items()):
            transitions.add_metric([kind], count)
        yield transitions

    def _load(self) -> Iterator[Metric]:
        load = self._engine.load_meter.load
        yield _gauge("load_level", "0 normal, 1 elevated, 2 shedding", LEVELS.index(load.level))
        yield _counter("load_level_changes", "Changes of the load level", load.changes_total)
        causes = GaugeMetricFamily(
            f"{_PREFIX}_load_cause", "The level that this measure asks for", labels=["cause"]
        )
        levels = {cause.name: cause.level for cause in load.causes}
        for name in CAUSES:
            causes.add_metric([name], LEVELS.index(levels.get(name, "normal")))
        sheds = CounterMetricFamily(
            f"{_PREFIX}_sheds", "Requests refused for want of room", labels=["reason"]
        )
        for reason in SHED_REASONS:
            sheds.add_metric([reason], load.sheds[reason])
        yield from (causes, sheds)

    def _shards(self) -> Iterator[Metric]:
        leases = GaugeMetricFamily(f"{_PREFIX}_leases", "Leases that are held", labels=["shard"])
        sessions = GaugeMetricFamily(
            f"{_PREFIX}_shard_sessions", "Worker sessions attached to a shard", labels=["shard"]
        )
        ready = GaugeMetricFamily(
            f"{_PREFIX}_ready_jobs",
            "Jobs that may start now, as far as they are in memory",
            labels=["tenant"],
        )
        backlog = GaugeMetricFamily(
            f"{_PREFIX}_backlog_jobs", "Jobs that are pending or scheduled", labels=["shard"]
        )
        by_tenant: Counter[str] = Counter()
        for shard in self._engine.shards:
            if shard.core is None:
                continue
            leases.add_metric([str(shard.shard)], shard.core.leases)
            sessions.add_metric([str(shard.shard)], shard.core.sessions)
            backlog.add_metric([str(shard.shard)], shard.core.backlog)
            for lane, count in shard.core.ready_counts().items():
                by_tenant[lane.tenant_id] += count
        for tenant_id, count in sorted(by_tenant.items()):
            ready.add_metric([tenant_id], count)
        yield from (leases, sessions, ready, backlog)

    def _planners(self) -> Iterator[Metric]:
        runs = GaugeMetricFamily(
            f"{_PREFIX}_live_runs", "Runs that have not ended", labels=["shard"]
        )
        nodes = GaugeMetricFamily(
            f"{_PREFIX}_live_run_nodes", "Nodes of runs that have not ended", labels=["shard"]
        )
        for planner in self._engine.planners:
            if planner.core is not None:
                runs.add_metric([str(planner.shard)], planner.core.live_runs)
                nodes.add_metric([str(planner.shard)], planner.core.live_nodes)
        yield from (runs, nodes)

    def _streams(self) -> Iterator[Metric]:
        actor = self._engine.broadcaster
        census = actor.census()
        yield _gauge("stream_readers", "Readers of events", census.readers)
        yield _gauge("stream_readers_behind", "Readers served from the ledger", census.behind)
        yield _gauge("stream_readers_full", "Readers that take nothing for now", census.full)
        yield _gauge("stream_lag_events", "Events that the last reader lacks", census.lag)
        yield _counter("stream_batches", "Batches handed to readers", actor.batches_total)
        yield _counter("stream_events", "Events handed to readers", actor.events_total)
        yield _counter("stream_ledger_pages", "Pages read for readers", actor.pages_total)

    def _webhooks(self) -> Iterator[Metric]:
        counts = self._engine.notifier.counts()
        webhooks = GaugeMetricFamily(f"{_PREFIX}_webhooks", "Webhooks by state", labels=["state"])
        webhooks.add_metric(["active"], counts.active)
        webhooks.add_metric(["paused"], counts.paused)
        posts = CounterMetricFamily(
            f"{_PREFIX}_webhook_posts", "Attempts to post an event", labels=["outcome"]
        )
        posts.add_metric(["delivered"], counts.delivered_total)
        posts.add_metric(["failed"], counts.failed_total)
        yield from (webhooks, posts)
        since_at = counts.waiting_since_at
        now_at = self._engine.clock.moment().at
        oldest_s = 0.0 if since_at is None else max(0, now_at - since_at) / SECOND
        yield _gauge("webhook_posts_in_flight", "Attempts that are under way", counts.in_flight)
        yield _gauge("webhook_oldest_waiting_seconds", "Wait of the oldest event", oldest_s)
        yield _counter(
            "webhook_events_missed",
            "Events past retention before they were posted",
            counts.missed_total,
        )

    def _sessions(self) -> Iterator[Metric]:
        sessions = self._engine.registry.statistics()
        yield _gauge("sessions", "Worker sessions that are open", sessions.sessions)
        yield _counter("sessions_opened", "Worker sessions opened", sessions.opened_total)
        yield _counter("sessions_failed", "Sessions ended by a fault", sessions.failed_total)
        yield _counter(
            "leases_given_back",
            "Leases granted to a session that had just gone",
            sessions.given_back_total,
        )
        door = self._workers
        yield _gauge("worker_connections", "Connections of the workers' port", door.connections)
        yield _counter("worker_handshakes_refused", "Handshakes refused", door.refused_total)
        yield _counter("worker_connections_broken", "Connections that broke", door.broken_total)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", text, value=value)
