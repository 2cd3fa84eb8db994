"""When a cron line fires in an IANA time zone.

Five fields (minute, hour, day of month, month, day of week), with ranges, steps, names, ``L``,
``LW`` and ``#``. A day of month and a day of week that both do not start with ``*`` are
alternatives, as in Debian's cron.

I1  A local time that does not exist because clocks were put forward (or a day was left out) is the
    first instant after the gap. One that exists twice is the first of the two. A line never fires
    twice for one local time.
I2  Zones come from the ``tzdata`` package, read once each, so every host gives the same answer.

Not here: what is done when it fires, and for how long (``blackout``).
Sources: PEP 495 for ambiguous and missing local times, crontab(5).
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from jobengine.domain.instant import SECOND

__all__ = ["cron_fault", "firings", "shortest_gap_us", "zone_fault"]

_CRON_CHARACTERS_MAX: Final = 128
_FIRINGS_SAMPLED: Final = 64
_FIVE_FIELDS: Final = re.compile(r"[0-9A-Za-z*,/#-]+(?: +[0-9A-Za-z*,/#-]+){4}")

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  local times are naive here, see _local_firings
_EPOCH_UTC: Final = _EPOCH.replace(tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def firings(cron: str, zone: str, after_at: int) -> Iterator[int]:
    """The instants after ``after_at`` at which the line fires, in their order, to the year 9999.

    Both texts are without fault, see below.
    """
    place = _zone(zone)
    for local in _local_firings(cron, _local(after_at, place)):
        at = _instant(local, place)
        if at > after_at:
            yield at


def zone_fault(zone: str) -> str | None:
    """Why this is no zone, with the remedy; reads on from the name of the field."""
    if zone in _zone_names():
        return None
    return f"{zone[:64]!r} is no IANA time zone; give one such as Europe/Berlin or UTC"


def cron_fault(cron: str) -> str | None:
    """Why this is no cron line, with the remedy; reads on from the name of the field."""
    if len(cron) > _CRON_CHARACTERS_MAX or not _FIVE_FIELDS.fullmatch(cron):
        return (
            "is not five fields of minute, hour, day of month, month, day of week; write it as in"
            " '30 2 * * MON-FRI'"
        )
    try:
        CronSim(cron, _EPOCH)
    except CronSimError as error:
        why = str(error).lower()
        return (
            f"{cron!r} has a {why} field, out of its range or a date that does not exist;"
            " correct it"
        )
    return None


def shortest_gap_us(cron: str, zone: str, at: int, gap_us_max: int) -> int | None:
    """Microseconds between two firings that follow ``at`` by the local clock; None if none does.

    At most ``gap_us_max``, and sampled up to the first gap that is longer.
    """
    following = _local_firings(cron, _local(at, _zone(zone)))
    before = next(following, None)
    if before is None:
        return None
    shortest = longest = timedelta(microseconds=gap_us_max)
    for local in islice(following, _FIRINGS_SAMPLED):
        shortest = min(shortest, local - before)
        if local - before > longest:
            break
        before = local
    return shortest // _MICROSECOND


def _local_firings(cron: str, after: datetime) -> Iterator[datetime]:
    """Local times without a zone, which the pattern alone decides; ends with the calendar's years.

    Naive on purpose: given a zone, cronsim would apply its own rules to changes of clocks.
    """
    simulated = CronSim(cron, after)
    while True:
        try:
            yield next(simulated)
        except (StopIteration, OverflowError):
            return


def _local(at: int, zone: ZoneInfo) -> datetime:
    return (_EPOCH_UTC + timedelta(microseconds=at)).astimezone(zone).replace(tzinfo=None)


def _instant(local: datetime, zone: ZoneInfo) -> int:
    """The instant of a local time, by I1."""
    there = local.replace(tzinfo=zone)
    first_at = (there - _EPOCH_UTC) // _MICROSECOND
    if _local(first_at, zone) == local:
        return first_at
    # In a gap: read with the later offset it comes before the change, with the earlier one after.
    low, high = (there.replace(fold=1) - _EPOCH_UTC) // _MICROSECOND // SECOND, first_at // SECOND
    while high - low > 1:
        middle = (low + high) // 2
        if _local(middle * SECOND, zone) < local:
            low = middle
        else:
            high = middle
    return high * SECOND


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="ascii").split())


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as data:
        return ZoneInfo.from_file(data, key=name)
