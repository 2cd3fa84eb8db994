"""When a node is busy: thresholds, patience on the way up, slowness on the way down."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobengine.core.load import LoadLimits, LoadMeter
from jobengine.domain.instant import Moment
from jobengine.messages.load import LEVELS, ChangeLevel, LoadLevel, Sample, Sampled, ShowLoad
from jobengine.messages.wake import Wake

MEMORY_MAX = 1_000 << 20
LIMITS = LoadLimits(memory_bytes_max=MEMORY_MAX)


def sampled(**fields: Any) -> Sampled:
    quiet: dict[str, Any] = {
        "mailbox": "lease-shard-0",
        "mailbox_fill": 0.0,
        "commits": 0,
        "commits_s": 0.0,
        "waiting_s": 0.0,
        "memory_bytes": 0,
        "busy": True,
    }
    return Sampled(**quiet | fields)


class Meter:
    """A meter that is woken when it wants to be; ``shown`` is what doors see."""

    def __init__(self, level: LoadLevel = "normal", limits: LoadLimits = LIMITS) -> None:
        self.core = LoadMeter(limits, level, 100.0)
        self.shown = ShowLoad(level=level, causes=())
        self.changes: list[ChangeLevel] = []
        self.changed_monos: list[float] = []

    def sample(self, count: int = 1, **fields: Any) -> LoadLevel:
        for _ in range(count):
            mono = self.core.wakeup_at
            assert mono is not None
            now = Moment(mono, round(mono * 1e6))
            assert self.core.handle(Wake(), now) == (Sample(),)
            for command in self.core.handle(sampled(**fields), now):
                if isinstance(command, ShowLoad):
                    self.shown = command
                elif isinstance(command, ChangeLevel):
                    assert command.before == (self.changes[-1].level if self.changes else "normal")
                    self.changes.append(command)
                    self.changed_monos.append(mono)
        return self.shown.level

    def causes(self) -> dict[str, LoadLevel]:
        return {cause.name: cause.level for cause in self.shown.causes}


MEASURES: list[tuple[str, dict[str, Any], LoadLevel]] = [
    ("mailbox", {"mailbox_fill": 0.49}, "normal"),
    ("mailbox", {"mailbox_fill": 0.5}, "elevated"),
    ("mailbox", {"mailbox_fill": 0.9}, "shedding"),
    ("commit_latency", {"commits": 10, "commits_s": 9.0}, "normal"),
    ("commit_latency", {"commits": 2, "commits_s": 4.0}, "elevated"),
    ("commit_latency", {"commits": 1, "commits_s": 12.0}, "shedding"),
    ("commits_waiting", {"waiting_s": 0.9}, "normal"),
    ("commits_waiting", {"waiting_s": 1.0}, "elevated"),
    ("commits_waiting", {"waiting_s": 5.0}, "shedding"),
    ("memory", {"memory_bytes": MEMORY_MAX * 74 // 100}, "normal"),
    ("memory", {"memory_bytes": MEMORY_MAX * 75 // 100}, "elevated"),
    ("memory", {"memory_bytes": MEMORY_MAX * 90 // 100}, "shedding"),
]


@pytest.mark.parametrize(("cause", "fields", "level"), MEASURES)
def test_each_measure_asks_for_a_level_by_itself_and_is_named(
    cause: str, fields: dict[str, Any], level: LoadLevel
) -> None:
    meter = Meter()
    assert meter.sample(4, **fields) == level
    assert meter.causes() == ({} if level == "normal" else {cause: level})


def test_a_cause_tells_what_was_seen_and_what_the_limit_is() -> None:
    meter = Meter()
    meter.sample(2, mailbox_fill=0.95, memory_bytes=800 << 20)
    mailbox, memory = meter.shown.causes
    assert (mailbox.observed, mailbox.limit) == ("95% of lease-shard-0", "90% of lease-shard-0")
    assert (memory.observed, memory.limit) == ("80% of 1000 MiB", "75% of 1000 MiB")
    assert meter.changes[-1].causes == meter.shown.causes


def test_the_highest_level_asked_for_counts_and_the_other_causes_are_told() -> None:
    meter = Meter()
    meter.sample(2, waiting_s=2.0, memory_bytes=MEMORY_MAX)
    assert meter.shown.level == "shedding"
    assert meter.causes() == {"commits_waiting": "elevated", "memory": "shedding"}


def test_one_bad_sample_changes_nothing() -> None:
    meter = Meter()
    for _ in range(10):
        assert meter.sample(mailbox_fill=1.0) == "normal"
        assert meter.sample() == "normal"
    assert meter.changes == []


def test_it_rises_to_what_two_samples_in_a_row_agree_on() -> None:
    meter = Meter()
    meter.sample(waiting_s=1.0)
    assert meter.sample(waiting_s=6.0) == "elevated"
    assert meter.sample(waiting_s=7.0) == "shedding"


def test_it_falls_step_by_step_after_less_was_asked_for_for_long_enough() -> None:
    meter = Meter()
    assert meter.sample(2, waiting_s=6.0) == "shedding"
    assert meter.sample(4) == "shedding"
    assert meter.sample() == "elevated"
    assert meter.sample(4) == "elevated"
    assert meter.sample() == "normal"
    assert [change.level for change in meter.changes] == ["shedding", "elevated", "normal"]


def test_what_returns_in_between_starts_the_wait_anew() -> None:
    meter = Meter()
    meter.sample(2, waiting_s=6.0)
    for _ in range(5):
        assert meter.sample(4) == "shedding"
        assert meter.sample(waiting_s=6.0) == "shedding"
    assert len(meter.changes) == 1


@pytest.mark.parametrize(
    ("high", "still", "below"),
    [
        ({"mailbox_fill": 0.9}, {"mailbox_fill": 0.46}, {"mailbox_fill": 0.24}),
        ({"waiting_s": 5.0}, {"waiting_s": 2.6}, {"waiting_s": 0.4}),
        (
            {"memory_bytes": MEMORY_MAX * 90 // 100},
            {"memory_bytes": MEMORY_MAX * 86 // 100},
            {"memory_bytes": MEMORY_MAX * 71 // 100},
        ),
    ],
)
def test_a_measure_holds_its_level_until_it_is_clearly_below(
    high: dict[str, Any], still: dict[str, Any], below: dict[str, Any]
) -> None:
    meter = Meter()
    meter.sample(2, **high)
    assert meter.sample(20, **still) == "shedding"
    assert meter.sample(20, **below) == "normal"


def test_a_slow_commit_is_forgotten_without_others_so_shedding_does_not_uphold_itself() -> None:
    meter = Meter()
    meter.sample(2, commits=1, commits_s=20.0)
    assert meter.shown.level == "shedding"
    assert meter.sample(20) == "normal"
    assert meter.causes() == {}


def test_memory_without_a_limit_is_not_judged() -> None:
    meter = Meter(limits=LoadLimits(memory_bytes_max=0))
    assert meter.sample(3, memory_bytes=1 << 60) == "normal"


def test_an_idle_node_is_looked_at_seldom_and_a_busy_one_every_second() -> None:
    meter = Meter()
    meter.sample(busy=True)
    assert meter.core.wakeup_at == 101.0
    meter.sample(busy=False)
    assert meter.core.wakeup_at == 103.0
    meter.sample(busy=False, memory_bytes=MEMORY_MAX)
    assert meter.core.wakeup_at == 104.0, "what asks for a level is looked at again soon"
    assert meter.sample(busy=False, memory_bytes=MEMORY_MAX) == "shedding"
    meter.sample(busy=False)
    assert meter.core.wakeup_at == 106.0, "above normal it is looked at every second"


def test_nothing_is_said_while_nothing_changes() -> None:
    meter = Meter()
    now = Moment(500.0, 500)
    assert meter.core.handle(sampled(), now) == (ShowLoad(level="normal", causes=()),)
    assert meter.core.handle(sampled(), now) == ()
    meter.core.handle(sampled(waiting_s=1.0), now)
    meter.core.handle(sampled(waiting_s=1.0), now)
    assert meter.core.handle(sampled(waiting_s=1.0), now) == ()


def test_a_new_life_goes_on_from_the_level_of_the_one_before() -> None:
    meter = Meter("shedding")
    now = Moment(101.0, 101)
    shown = meter.core.handle(sampled(), now)
    assert shown == (ShowLoad(level="shedding", causes=()),), "its causes are those of now"
    meter = Meter("shedding")
    assert meter.sample(waiting_s=6.0) == "shedding"
    assert meter.changes == []


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.3, 0.47, 0.6, 0.95]), st.sampled_from([0.0, 2.0, 8.0])),
        max_size=120,
    )
)
def test_levels_never_flap(history: list[tuple[float, float]]) -> None:
    meter = Meter()
    for fill, waiting_s in history:
        meter.sample(mailbox_fill=fill, waiting_s=waiting_s)
        assert [cause.level for cause in meter.shown.causes if cause.level == "normal"] == []
    steps = list(zip(meter.changes, meter.changed_monos, strict=True))
    for (_, earlier_mono), (fall, mono) in pairwise(steps):
        before, after = LEVELS.index(fall.before), LEVELS.index(fall.level)
        if after < before:
            assert after == before - 1, "it falls by one step"
            assert mono - earlier_mono >= LIMITS.fall_s, "each level holds for a while"
