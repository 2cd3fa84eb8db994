"""Small ledgers and journals written by hand, to hold the auditor against."""

import hashlib
import json
from typing import Any

import attrs

from jobengine.testing.sim.audited import AuditedLedger, ViolationError
from jobengine.testing.sim.auditor import Evidence, digest_of, judge
from jobengine.testing.sim.journal import Answered, Asked, Heard, Journal, Read, Said

TENANT = "acme"
WORKER = "w1"
EPOCH_AT = 1_000_000_000_000
STEPS = {
    "job.created": (None, "pending"),
    "job.scheduled": ("pending", "scheduled"),
    "job.started": ("scheduled", "running"),
    "job.completed": ("running", "completed"),
    "job.failed": ("running", "failed"),
    "job.released": ("running", "scheduled"),
    "job.retried": ("failed", "scheduled"),
}


@attrs.frozen
class HandBlock:
    first_seq: int
    last_seq: int
    previous: bytes
    link: bytes
    body: bytes


def block(entries: list[dict[str, Any]], previous: bytes = bytes(32)) -> HandBlock:
    body = b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
    link = hashlib.sha256(previous + body).digest()
    return HandBlock(entries[0]["seq"], entries[-1]["seq"], previous, link, body)


@attrs.define
class Case:
    """A run of one tenant, one entry a second; its verbs add what happened and was said.

    Every entry is durable at the second of its seq, and everything is said half a second later.
    """

    entries: list[dict[str, Any]] = attrs.field(factory=list)
    journal: Journal = attrs.field(factory=Journal)
    fates: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    running: set[str] = attrs.field(factory=set)
    letters: set[str] | None = None
    kept: dict[str, str] = attrs.field(factory=dict)
    struck: list[tuple[float, str]] = attrs.field(factory=list)

    @property
    def now(self) -> float:
        return len(self.entries) + 0.5

    # ---- the ledger

    def entry(self, kind: str, job: str | None = None, **fields: Any) -> dict[str, Any]:
        seq = len(self.entries) + 1
        made: dict[str, Any] = {
            "actor": "engine", "at": EPOCH_AT + seq * 1_000_000, "kind": kind, "seq": seq
        }  # fmt: skip
        before, after = STEPS.get(kind, (None, None))
        if after is not None:
            made |= {"to": after} | ({} if before is None else {"from": before})
        if job is not None:
            made["job"] = job
        self.entries.append(made | fields)
        return self.entries[-1]

    def create(self, job: str, scheduled: bool = True, **definition: Any) -> None:
        payload = {"number": len(self.entries), "steps": definition.pop("steps", ["complete"])}
        data = {"jobType": "scan", "queue": "scan", "payloadDigest": digest_of(payload)}
        self.fates[digest_of(payload)] = payload
        self.entry("job.created", job, data=data | definition)
        if scheduled:
            self.entry("job.scheduled", job)

    def start(self, job: str, attempt: int = 1, worker: str = WORKER, **fields: Any) -> None:
        self.entry("job.started", job, attempt=attempt, worker=worker, **fields)

    def complete(self, job: str, attempt: int = 1, worker: str = WORKER) -> None:
        """The worker reports it, and it is taken."""
        self.tell_lease(job, attempt, worker)
        self.say("complete", lease(job, attempt), worker)
        self.end("job.completed", job, attempt, worker)

    def fail(self, job: str, attempt: int = 1, **fields: Any) -> None:
        """The worker reports it, and it is taken."""
        self.tell_lease(job, attempt)
        self.say("fail", lease(job, attempt))
        self.end("job.failed", job, attempt, **{"reason": "error", "error": {}} | fields)

    def end(self, kind: str, job: str, attempt: int = 1, worker: str = WORKER, **more: Any) -> None:
        fields = {"actor": f"worker:{worker}", "attempt": attempt, "worker": worker}
        self.entry(kind, job, **fields | more)

    def run_through(self, job: str, **definition: Any) -> None:
        """A job from its creation to its completion."""
        self.create(job, **definition)
        self.start(job)
        self.complete(job)

    def control(self, kind: str, name: str, **control: Any) -> None:
        data = {"kind": kind, "name": name, "revision": 1, "control": control or None}
        self.entry(f"{kind}.set", data=data)

    # ---- what was said

    def tell_lease(self, job: str, attempt: int = 1, worker: str = WORKER, **more: Any) -> None:
        message = {
            "op": "lease", "leaseId": lease(job, attempt), "jobId": job, "attempt": attempt,
            "token": attempt,
        }  # fmt: skip
        self.hear(message | more, worker)

    def hear(self, message: dict[str, Any], worker: str = WORKER, at: float | None = None) -> None:
        self.journal.heard.append(Heard(
            at=self.now if at is None else at, worker_id=worker, connection=1, tenant_id=TENANT,
            message=message,
        ))  # fmt: skip

    def say(self, op: str, lease_id: str = "", worker: str = WORKER, **more: Any) -> None:
        message = {"op": op, "ref": lease_id, "leaseId": lease_id} | more
        if lease_id:
            message.setdefault("token", int(lease_id.rpartition(".")[2]))
        self.journal.said.append(Said(
            at=self.now, worker_id=worker, connection=1, tenant_id=TENANT, message=message
        ))  # fmt: skip

    def ask(self, number: int, verb: str, key: str | None = None, **about: Any) -> None:
        self.journal.asked.append(Asked(
            at=self.now, number=number, tenant_id=TENANT, verb=verb, key=key, about=about
        ))  # fmt: skip

    def answer(self, number: int, at: float | None = None, **answer: Any) -> None:
        at = self.now if at is None else at
        self.journal.answered.append(Answered(at=at, number=number, refusal=None, answer=answer))

    def read(self, seq: int, reader: str = "r", at: float | None = None, **event: Any) -> None:
        entry = self.entries[seq - 1]
        same = {"seq": seq, "eventType": entry["kind"], "job": {"id": entry.get("job")}}
        at = self.now if at is None else at
        self.journal.read.append(
            Read(at=at, reader=reader, tenant_id=TENANT, seq=seq, event=same | event)
        )

    # ---- the verdict

    def ledger(self) -> AuditedLedger:
        commits = [(float(entry["seq"]), entry["seq"]) for entry in self.entries]
        return AuditedLedger(TENANT, [block(self.entries)] if self.entries else [], commits)

    def evidence(self) -> Evidence:
        return Evidence(
            ledgers={TENANT: self.ledger()},
            journal=self.journal,
            fates=self.fates,
            running={TENANT: self.running},
            letters={} if self.letters is None else {TENANT: self.letters},
            kept=self.kept,
            struck=self.struck,
            epoch_at=EPOCH_AT,
            ended_at=self.now,
        )


def lease(job: str, attempt: int = 1) -> str:
    return f"{job}.{attempt}"


def refused(case: Case) -> str:
    """The rule that is said to be broken; empty where none is."""
    try:
        judge(case.evidence())
    except ViolationError as error:
        return str(error).partition(":")[0]
    return ""


def whole() -> Case:
    """A run in which a job was submitted, leased, reported and acked, and all was read."""
    case = Case()
    case.journal.readers["r"] = (TENANT, {})
    payload = {"number": 0, "steps": ["complete"]}
    case.ask(1, "submit", "k", jobs=[{"jobType": "scan", "payload": payload}])
    case.create("a")
    case.answer(1, outcomes=[{"outcome": "created", "jobId": "a", "refusal": None}])
    case.start("a")
    case.complete("a")
    case.hear({"op": "ack", "ref": "a.1"})
    for entry in case.entries:
        case.read(entry["seq"])
    return case
