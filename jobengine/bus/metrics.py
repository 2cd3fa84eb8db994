"""What Prometheus reads of a bus; see `http/metrics.py`."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from jobengine.bus.bus import Bus

__all__ = ["metrics_of_bus"]

_PREFIX: Final = "jobengine_bus"


def metrics_of_bus(bus: Bus | None) -> Callable[[], Iterable[Metric]]:
    """A function that gives the families of a node's bus; none without one."""

    def collect() -> Iterator[Metric]:
        if bus is not None:
            yield from _metrics(bus)

    return collect


def _metrics(bus: Bus) -> Iterator[Metric]:
    yield _gauge("connected", "1 while there is a connection to the bus", bus.connected)
    yield _counter("connects", "Connections to the bus that came about", bus.connects_total)
    if bus.publisher is not None:
        turns = bus.publisher.turns
        yield _counter(
            "published", "Events that the bus has confirmed", bus.publisher.published_total
        )
        yield _counter(
            "gaps", "Events past retention before the bus had them", bus.publisher.gaps_total
        )
        yield _gauge("tenants_behind", "Tenants with events to publish", turns.tenants_behind)
        yield _gauge("events_behind", "Events to publish, as far as known", turns.events_behind)
    if bus.intake is not None:
        intake = bus.intake
        yield _counter("taken", "Job requests that were committed", intake.taken_total)
        yield _counter("deferred", "Job requests given back for later", intake.deferred_total)
        yield _counter("dead", "Job requests set aside with a reason", intake.dead_total)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", text, value=value)
