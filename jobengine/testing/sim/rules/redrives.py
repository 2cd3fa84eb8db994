"""Dead letters and redrives.

R31 A dead letter is closed once: by a retry of its job, a replay, or a discard. What the store
    holds as open is what the ledger leaves open.
R32 A redrive replays letters that match, are open and are no younger than itself, each once, and no
    more than it may; none while it is paused or over. What it counts is what it did. One that says
    that it is completed has tried all that were there when it began; each ends.

Not here: what operators do to single letters (`acts`).
"""

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from jobengine.testing.sim.audited import AuditedLedger, Entry, hold
from jobengine.testing.sim.rules.evidence import Evidence

__all__ = ["judge_redrives"]

_REDRIVE: Final = "deadletter.redrive_"
_STEPS: Final = {
    "paused": ("running",),
    "resumed": ("paused",),
    "stopped": ("running", "paused"),
    "completed": ("running",),
    "letter_failed": ("running",),
}
_LEADS: Final = {"resumed": "running", "letter_failed": "running"}


@attrs.define(eq=False)
class _Letter:
    job_id: str
    job_type: str
    at: int
    open: bool = True


@attrs.define(eq=False)
class _Redrive:
    """`due` are the letters that it has to try."""

    name: str
    order: Entry
    due: list[_Letter]
    state: str = "running"
    replayed: int = 0
    failed: int = 0

    def may(self, letter: _Letter) -> bool:
        job_type = self.order.get("jobType")
        return letter.at <= self.order["createdAt"] and job_type in (None, letter.job_type)

    @property
    def is_full(self) -> bool:
        cap = self.order.get("lettersMax")
        return cap is not None and self.replayed + self.failed >= cap


def judge_redrives(evidence: Evidence) -> None:
    for ledger in evidence.ledgers.values():
        letters = _Letters(ledger)
        for entry in ledger.entries:
            letters.step(entry)
        for redrive in letters.redrives.values():
            over = redrive.state in ("completed", "stopped")
            hold(over, "R32", f"{redrive.name} is still {redrive.state}")
        held = evidence.letters.get(ledger.tenant_id)
        if held is not None:
            differs = sorted(letters.open() ^ held)
            hold(not differs, "R31", f"letters of {differs} are open in one place only")


class _Letters:
    """The letters of a ledger, the newest of each job, and its redrives by who began them."""

    def __init__(self, ledger: AuditedLedger) -> None:
        self.redrives: dict[str, _Redrive] = {}
        self._ledger = ledger
        self._letters: dict[str, _Letter] = {}
        self._by_id: dict[str, _Redrive] = {}
        self._verbs: Mapping[str, Callable[[Entry], None]] = {
            "job.dead_lettered": self._die,
            "job.dead_letter_discarded": self._discard,
            "job.retried": self._retry,
            "job.created": self._create,
        }

    def open(self) -> set[str]:
        """The jobs whose letters are open."""
        return {letter.job_id for letter in self._letters.values() if letter.open}

    def step(self, entry: Entry) -> None:
        kind = entry["kind"]
        if kind in self._verbs:
            self._verbs[kind](entry)
        elif kind == f"{_REDRIVE}started":
            self._begin(entry)
        elif kind.startswith(_REDRIVE):
            self._move(entry, kind.removeprefix(_REDRIVE))

    def _die(self, entry: Entry) -> None:
        job_id = entry["job"]
        before = self._letters.get(job_id)
        told = f"#{entry['seq']}: {job_id} has an open letter already"
        hold(before is None or not before.open, "R31", told)
        job_type = self._ledger.jobs[job_id].definition["jobType"]
        self._letters[job_id] = _Letter(job_id, job_type, entry["at"])

    def _discard(self, entry: Entry) -> None:
        letter = self._letters.get(entry["job"])
        is_open = letter is not None and letter.open
        hold(is_open, "R31", f"#{entry['seq']}: {entry['job']} has no open letter to discard")
        assert letter is not None
        letter.open = False

    def _retry(self, entry: Entry) -> None:
        if entry["actor"] != "engine" and entry["job"] in self._letters:
            self._letters[entry["job"]].open = False

    def _create(self, entry: Entry) -> None:
        # What a rerun repeats is no letter's replay.
        job_id = entry["data"].get("replayOf") if "runId" not in entry["data"] else None
        letter, redrive = self._letters.get(job_id or ""), self.redrives.get(entry["actor"])
        if redrive is not None:
            self._replay(redrive, letter, f"#{entry['seq']}: {redrive.name} replays {job_id}")
        if letter is not None:
            letter.open = False

    def _replay(self, redrive: _Redrive, letter: _Letter | None, told: str) -> None:
        hold(redrive.state == "running", "R32", f"{told} while it is {redrive.state}")
        hold(letter is not None and letter.open, "R32", f"{told}, whose letter is closed")
        assert letter is not None
        hold(redrive.may(letter), "R32", f"{told}, whose letter is none of its own")
        hold(not redrive.is_full, "R32", f"{told} beyond its cap")
        redrive.replayed += 1

    def _begin(self, entry: Entry) -> None:
        data = entry["data"]
        name = f"redrive {data['redriveId']}"
        hold(entry["actor"] not in self.redrives, "R5", f"#{entry['seq']}: {name} is begun twice")
        redrive = _Redrive(name, data["order"], [])
        redrive.due = [each for each in self._letters.values() if each.open and redrive.may(each)]
        self.redrives[entry["actor"]] = self._by_id[data["redriveId"]] = redrive

    def _move(self, entry: Entry, step: str) -> None:
        data, told = entry["data"], f"#{entry['seq']}: {step}"
        redrive = self._by_id[data["redriveId"]]
        told = f"{told} of {redrive.name}"
        hold(redrive.state in _STEPS[step], "R32", f"{told}, which was {redrive.state}")
        redrive.state = _LEADS.get(step, step)
        if step == "letter_failed":
            redrive.failed += 1
            redrive.due = [each for each in redrive.due if each.job_id != data["jobId"]]
            return
        said, right = (data["replayed"], data["failed"]), (redrive.replayed, redrive.failed)
        hold(said == right, "R32", f"{told} counts {said}, and {right} is right")
        if step == "completed" and not redrive.is_full:
            left = [each.job_id for each in redrive.due if each.open]
            hold(not left, "R32", f"{told} leaves {left}")
