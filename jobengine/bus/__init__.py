"""Message buses beside the doors: the event feed out, job requests in.

    publisher ── turns      whose events go next        intake ── requests      messages into jobs
        └────────────────────────────── link ──────────────────────────────┘
                  jetstream ── nats_connection  |  valkey_streams ── valkey_connection

`open_bus` runs all of it beside an engine; see docs/bus.md and docs/decisions/0027-bus.md.
"""

from jobengine.bus.bus import Bus, open_bus
from jobengine.bus.errors import BusAwayError, BusUnusableError
from jobengine.bus.metrics import metrics_of_bus

__all__ = ["Bus", "BusAwayError", "BusUnusableError", "metrics_of_bus", "open_bus"]
