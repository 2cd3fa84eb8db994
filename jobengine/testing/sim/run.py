"""One simulated run: a world, its users and its workers, from a seed to a verdict.

Phase one: users use, faults strike. Phase two: everything heals, users make no new work, operators
let go of what they hold back, and all that was accepted has to end. Then the auditor judges.

I1  The verdict and the digest of the trace follow from seed, scenario and code alone. The trace
    ends with what the ledgers have come to, so their bytes are in the digest.
I2  A run ends: by its verdict, or by a virtual deadline, which is a verdict too.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import structlog
import trio

from jobengine.settings import Settings
from jobengine.testing.sim.audited import FINAL, AuditedLedger
from jobengine.testing.sim.auditor import Evidence, digest_of, judge
from jobengine.testing.sim.chance import Chance
from jobengine.testing.sim.desk import Desk
from jobengine.testing.sim.determinism import run_seeded
from jobengine.testing.sim.failure import Failure, failure_of
from jobengine.testing.sim.faults import Faults
from jobengine.testing.sim.journal import Journal
from jobengine.testing.sim.ledger_lines import ledger_lines
from jobengine.testing.sim.network import Network
from jobengine.testing.sim.producer import JOB_TYPES, Numbers
from jobengine.testing.sim.reader import Reader
from jobengine.testing.sim.scenario import Scenario
from jobengine.testing.sim.store import NthCall, SimulatedStore
from jobengine.testing.sim.trace import Trace
from jobengine.testing.sim.users import Users
from jobengine.testing.sim.virtual_time import sleep
from jobengine.testing.sim.worker import SimulatedWorker
from jobengine.testing.sim.world import EPOCH_AT, World

__all__ = ["Verdict", "simulate"]

_LOOK_S: Final = 1.0
_READ_S: Final = 75.0
_SPARE_S: Final = 600.0
_TENANTS: Final = ("acme", "globex", "initech", "umbrella")


@attrs.frozen(kw_only=True)
class Verdict:
    """`violation` is None where every rule held; `traceback` is that of an error which nobody
    foresaw, in the engine or the harness. `simulated_s` is of virtual time. `chances` and `strikes`
    are of fault sites and what they hit; `calls` of the store by verb."""

    seed: int
    scenario: str
    digest: str
    violation: str | None
    traceback: str | None
    simulated_s: float
    jobs: int
    entries: int
    lives: int
    chances: Mapping[tuple[str, str], int]
    strikes: Mapping[tuple[str, str], int]
    calls: Mapping[str, int]
    trace: Sequence[str]
    ledger: Sequence[Sequence[str]] = ()
    """Of each tenant, where the trace was kept."""


def simulate(
    seed: int,
    scenario: Scenario,
    *,
    nth: NthCall | None = None,
    keep_trace: bool = False,
    judged: bool = True,
) -> Verdict:
    """Run a seed to its verdict; never raises for what engine or harness do in it. Not `judged`,
    it has no violation but that it failed or did not end."""
    run = _Run(seed, scenario, nth, keep_trace=keep_trace)
    failure = None
    with structlog.testing.capture_logs():
        try:
            deadline_s = scenario.faults_s + scenario.heal_s + _SPARE_S
            run_seeded(run.main, seed=seed, deadline_s=deadline_s)
            if judged:
                run.judge()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this run's verdict
            failure = failure_of(error)
    return run.verdict(failure)


class _Run:
    def __init__(
        self, seed: int, scenario: Scenario, nth: NthCall | None, *, keep_trace: bool
    ) -> None:
        self.seed = seed
        self.scenario = scenario
        self.chance = Chance(seed)
        self.trace = Trace(keep=keep_trace)
        self.journal = Journal()
        self.faults = Faults(self.chance, self.trace, scenario.sites, scenario.share)
        self.store = SimulatedStore(self.faults, nth=nth)
        self.network = Network(self.chance, self.faults)
        self.numbers = Numbers()
        self.tenants = _TENANTS[: scenario.tenants]
        self._told = self.tenants if keep_trace else ()
        self.ended_at = 0.0
        self.world = World(
            self.chance,
            _settings(self.chance),
            self.faults,
            self.trace,
            self.network,
            self.store,
            self.journal,
        )
        self.desk = Desk(
            self.world, self.network, self.journal, self.trace, self.chance.fork("desk")
        )
        self.readers: list[Reader] = []

    async def main(self) -> None:
        async with trio.open_nursery() as everything:
            await everything.start(self.world.run)
            everybody = [self._users(tenant) for tenant in self.tenants]
            for users in everybody:
                await users.prepare()
            self._start_workers(everything)
            self._start_readers(everything)
            with trio.move_on_after(self.scenario.faults_s):
                async with trio.open_nursery() as at_once:
                    for users in everybody:
                        at_once.start_soon(users.run)
            self.faults.heal()
            self.journal.healed_at = trio.current_time()
            async with trio.open_nursery() as at_once:
                for users in everybody:
                    at_once.start_soon(users.finish)
            for users in everybody:
                everything.start_soon(users.look_after)
            await self._settle()
            self.ended_at = trio.current_time()
            self._note_ledgers()
            everything.cancel_scope.cancel()

    def _note_ledgers(self) -> None:
        """The link of a ledger's last block stands for every byte of it."""
        for tenant, head in sorted(self.store.inner.tables.heads.items()):
            link = head.link.hex()
            self.trace.note("world", "ledger", tenant=tenant, entries=head.next_seq - 1, link=link)

    def _users(self, tenant: str) -> Users:
        return Users(
            tenant,
            self.scenario,
            self._workers(tenant),
            world=self.world,
            desk=self.desk,
            chance=self.chance,
            numbers=self.numbers,
        )

    def _workers(self, tenant: str) -> list[str]:
        return [f"{tenant}-w{number}" for number in range(self.scenario.workers)]

    def _start_workers(self, nursery: trio.Nursery) -> None:
        for tenant in self.tenants:
            for worker_id in self._workers(tenant):
                worker = SimulatedWorker(
                    worker_id,
                    tenant,
                    JOB_TYPES,
                    world=self.world,
                    chance=self.chance,
                    faults=self.faults,
                    journal=self.journal,
                    trace=self.trace,
                )
                nursery.start_soon(worker.run)

    def _start_readers(self, nursery: trio.Nursery) -> None:
        for tenant in self.tenants:
            for number in range(self.scenario.readers):
                name = f"{tenant}-r{number}"
                dice = self.chance.fork("reader", name)
                reader = Reader(name, tenant, self.world, self.journal, dice, choosy=number > 0)
                self.readers.append(reader)
                nursery.start_soon(reader.run)

    async def _settle(self) -> None:
        """Until every job has ended and every reader has got all of it; one that wants a part does
        not hear how far the rest has come, and has a while for it. A request that nobody waits for
        any more may take effect meanwhile, and is waited for as well."""
        with trio.move_on_after(self.scenario.heal_s):
            ended = False
            while not ended:
                while not self._settled():
                    await sleep(_LOOK_S)
                await sleep(_READ_S)
                ended = self._settled()

    def _settled(self) -> bool:
        tables = self.store.inner.tables
        return all(str(job.state) in FINAL for job in tables.jobs.values()) and all(
            reader.last_seq == self._last_seq(reader.tenant_id)
            for reader in self.readers
            if reader.wants_all
        )

    def _last_seq(self, tenant_id: str) -> int:
        head = self.store.inner.tables.heads.get(tenant_id)
        return 0 if head is None else head.next_seq - 1

    def judge(self) -> None:
        tables = self.store.inner.tables
        ledgers = {
            tenant: AuditedLedger(
                tenant, list(tables.blocks[tenant]), self.store.committed.get(tenant, ())
            )
            for tenant in self.tenants
        }
        running: dict[str, set[str]] = {}
        for tenant, job_id in tables.leases:
            running.setdefault(tenant, set()).add(job_id)
        letters: dict[str, set[str]] = {tenant: set() for tenant in self.tenants}
        for letter in tables.letters.values():
            if letter.state == "open":
                letters[letter.tenant_id].add(letter.job_id)
        judge(
            Evidence(
                ledgers=ledgers,
                journal=self.journal,
                fates=self._fates(),
                running=running,
                letters=letters,
                kept=self._kept(),
                struck=self.faults.struck,
                epoch_at=EPOCH_AT,
                ended_at=self.ended_at,
            )
        )

    def _kept(self) -> dict[str, str]:
        """What the store holds beside its ledgers and payloads."""
        tables = self.store.inner.tables
        logs = (lines.lines for rows in tables.logs.values() for _, lines in rows)
        said = (
            text or b""
            for job in tables.jobs.values()
            for text in (job.result, job.error, job.progress)
        )
        return {"logs": b"".join(logs).decode(), "jobs": b"".join(said).decode()}

    def _fates(self) -> dict[str, dict[str, Any]]:
        return {
            digest_of(job["payload"]): job["payload"]
            for asked in self.journal.asked
            if asked.verb in ("submit", "run", "dag", "extend")
            for job in asked.about["jobs"]
            if "payload" in job
        }

    def verdict(self, failure: Failure | None) -> Verdict:
        tables = self.store.inner.tables
        return Verdict(
            seed=self.seed,
            scenario=self.scenario.name,
            digest=self.trace.digest,
            violation=None if failure is None else failure.violation,
            traceback=None if failure is None else failure.traceback,
            simulated_s=self.ended_at,
            jobs=len(tables.jobs),
            entries=sum(head.next_seq - 1 for head in tables.heads.values()),
            lives=self.world.lives,
            chances=dict(self.faults.chances),
            strikes=dict(self.faults.strikes),
            calls=dict(Counter(self.store.calls)),
            trace=list(self.trace.lines),
            ledger=[self._ledger_lines(tenant) for tenant in self._told],
        )

    def _ledger_lines(self, tenant: str) -> list[str]:
        blocks = self.store.inner.tables.blocks[tenant]
        return list(ledger_lines(tenant, blocks, self.store.committed.get(tenant, ())))


def _settings(chance: Chance) -> Settings:
    """Settings of a run, from their ranges; small ones, so that every window runs over."""
    dice = chance.fork("settings")
    return Settings(
        shards=dice.choice((1, 2, 4)),
        heartbeat_s=dice.choice((2.0, 5.0, 15.0)),
        lane_jobs_max=dice.choice((64, 1_000)),
        window_jobs_max=dice.choice((64, 1_000)),
        due_jobs_max=dice.choice((16, 64)),
        batch_entries_max=dice.choice((10, 200, 12_000)),
        commits_in_flight_max=dice.choice((1, 2, 3)),
        ring_events_max=dice.choice((16, 64, 8_192)),
        ask_timeout_s=dice.choice((3.0, 15.0)),
        backoff_s_max=dice.choice((0.2, 2.0)),
        commit_follow_entries=dice.choice((0, 1, 2_000)),
        # What the real process takes must not have a say: no share of this is ever reached.
        memory_bytes_max=1 << 50,
    )
