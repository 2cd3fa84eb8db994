"""The proof that a run lost nothing: what was observed, judged from several sides.

The engine's account (run, graph, histories, dead letters) is held against what the workers left
behind (witnesses, report), what the upstream counted, and a plain loop over the published data.

Checks, each a sentence when it does not hold:
    C1  The run has completed, with exactly the planned jobs, all completed, and no dead letter.
    C2  Each history is a chain from creation to completion: every step starts where the last ended.
    C3  No attempt of a job began before all that it depends on had completed.
    C4  Every attempt seen by a worker was granted, and the last grant of each job was worked on.
    C5  Each 429 that the upstream sent is one failed attempt, and nothing else claims to be one.
    C6  The killed worker held leases; each was found lost and its job completed by another process.
    C7  The report holds every component of the bill of materials, once, and no other.
    C8  Its outcomes equal those of a plain loop over the data sets, without any job.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from jobengine.demo import advisories, matching, sbom
from jobengine.demo.api import Dag, DeadLetter, Run, Transition
from jobengine.demo.plan import JOIN, MAP, Plan, expected_jobs
from jobengine.demo.report import Report
from jobengine.demo.workspace import Witness


@attrs.frozen
class Observed:
    """Everything that is judged. `histories` is by job id; `killed_jobs` were running when
    killed."""

    plan: Plan
    run: Run
    dag: Dag
    histories: Mapping[str, Sequence[Transition]]
    dead_letters: Sequence[DeadLetter]
    witnesses: Sequence[Witness]
    refusals: int
    killed_pid: int
    killed_jobs: Sequence[str]
    components: Sequence[sbom.Component]
    report: Report


def audit(observed: Observed) -> Sequence[str]:
    """What does not hold, in the order of the checks; empty when nothing was lost."""
    return [
        *_planned(observed),
        *_chained(observed),
        *_in_order(observed),
        *_witnessed(observed),
        *_refused(observed),
        *_recovered(observed),
        *_reported(observed),
        *_equal_to_plain_loop(observed),
    ]


def plain_loop(
    components: Iterable[sbom.Component], sources: Iterable[str]
) -> Sequence[matching.Outcome]:
    """The outcomes by one pass over the data sets as published: one shard, one process."""
    data_sets = [advisories.DATA_SETS[source] for source in sources]
    records = [
        record
        for data_set in data_sets
        for raw in advisories.raw_shards(data_set, 1)
        for record in advisories.normalise(data_set.source, raw)
    ]
    covered = frozenset(data_set.ecosystem for data_set in data_sets)
    return matching.match_all(components, records, covered)


def _planned(observed: Observed) -> Iterator[str]:
    run, nodes = observed.run, observed.dag.nodes
    if run.state != "completed":
        yield f"the run is {run.state}"
    completed = 0 if run.roll_up is None else run.roll_up.completed
    if not run.nodes == completed == len(nodes):
        yield f"the run has {run.nodes} nodes, {len(nodes)} in its graph, {completed} completed"
    counted = Counter(node.job_type for node in nodes)
    expected = expected_jobs(observed.plan)
    for job_type in sorted({*counted, *expected}):
        if counted[job_type] != expected.get(job_type, 0):
            yield f"{job_type}: {counted[job_type]} jobs, planned {expected.get(job_type, 0)}"
    for node in nodes:
        if node.state != "completed":
            yield f"{node.key} is {node.state}"
    ours = {node.job_id for node in nodes}
    for letter in observed.dead_letters:
        if letter.job_id in ours:
            yield f"{letter.job_type} {letter.job_id} is a dead letter"


def _chained(observed: Observed) -> Iterator[str]:
    for node in observed.dag.nodes:
        history = observed.histories[node.job_id]
        before = [None, *(step.to for step in history)]
        for step, expected in zip(history, before, strict=False):
            if step.from_ != expected:
                yield f"{node.key}: a step from {step.from_} follows {expected}"
        if not history or history[-1].to != "completed":
            yield f"{node.key}: its history does not end completed"


def _in_order(observed: Observed) -> Iterator[str]:
    history = {node.key: observed.histories[node.job_id] for node in observed.dag.nodes}
    for before, after in observed.dag.edges:
        done = [step.at for step in history[before] if step.to == "completed"]
        began = [step.at for step in history[after] if step.to == "running"]
        if not done or (began and min(began) < max(done)):
            yield f"{after} began before {before} had completed"


def _witnessed(observed: Observed) -> Iterator[str]:
    seen: dict[str, set[int]] = {}
    for witness in observed.witnesses:
        seen.setdefault(witness.job_id, set()).add(witness.attempt)
    for node in observed.dag.nodes:
        if node.job_type in (MAP, JOIN):
            continue
        attempts = seen.get(node.job_id, set())
        if not attempts <= set(range(1, node.attempt + 1)):
            yield f"{node.key}: attempts {sorted(attempts)} seen, {node.attempt} granted"
        if node.attempt not in attempts:
            yield f"{node.key}: completed in attempt {node.attempt}, which no worker started"


def _refused(observed: Observed) -> Iterator[str]:
    reported = sum(
        step.error is not None and step.error.http_status == 429
        for history in observed.histories.values()
        for step in history
        if step.to == "failed"
    )
    if reported != observed.refusals:
        yield f"the upstream sent 429 {observed.refusals} times, {reported} attempts failed by it"


def _recovered(observed: Observed) -> Iterator[str]:
    if not observed.killed_jobs:
        yield "the killed worker held no lease"
    last = {witness.job_id: witness.pid for witness in observed.witnesses}
    for job_id in observed.killed_jobs:
        reasons = [step.reason for step in observed.histories[job_id] if step.to == "failed"]
        if "lease_expired" not in reasons:
            yield f"{job_id}: its worker was killed, but its lease never expired"
        if last.get(job_id) == observed.killed_pid:
            yield f"{job_id}: no other worker took it over"


def _reported(observed: Observed) -> Iterator[str]:
    reported = Counter(outcome.purl for outcome in observed.report.outcomes)
    listed = Counter(component.purl for component in observed.components)
    for purl in sorted({*reported, *listed}):
        if (reported[purl], listed[purl]) != (1, 1):
            yield f"{purl}: {reported[purl]} times in the report, {listed[purl]} in the SBOM"


def _equal_to_plain_loop(observed: Observed) -> Iterator[str]:
    expected = plain_loop(observed.components, observed.plan.sources)
    if tuple(expected) != observed.report.outcomes:
        yield "the report differs from a plain loop over the published data"
