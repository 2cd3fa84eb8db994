"""Packs as they are registered: ``DagDocument``s whose nodes were compiled from steps.

I1  The plan of a pack, and so its hash, follows from its document alone: it says nothing of who
    runs it, when, under which token, or on what inputs.

Not here: steps and how they are compiled (``pack_steps``).
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from jobengine.domain.canonical import canonical_of, digest
from jobengine.domain.dag_document import DagDocument, plan_dag, refuse_dag
from jobengine.domain.errors import Refusal
from jobengine.domain.run import RunDefinition, canonical_definition
from jobengine.domain.run_nodes import prepare_nodes
from jobengine.domain.run_plan import PlannedRun
from jobengine.domain.run_record import RunRecord

__all__ = ["pack_plan", "plan_hash", "plan_pack", "refuse_pack", "with_paths"]

_PLACE: Final = re.compile(r"jobs\[([0-9]+)\]")


def refuse_pack(document: DagDocument, paths: Sequence[str]) -> Refusal | None:
    """Why a compiled document cannot be registered; takes some 0.1 ms a node."""
    refusal = refuse_dag(document)
    return None if refusal is None else with_paths(refusal, paths)


def with_paths(refusal: Refusal, paths: Sequence[str]) -> Refusal:
    """A refusal of a node, ``jobs[3].payload``, as one of the step at that place in ``paths``."""

    def step(match: re.Match[str]) -> str:
        place = int(match[1])
        return paths[place] if place < len(paths) else match[0]

    message = _PLACE.sub(step, refusal.message, count=1)
    details = dict(refusal.details)
    if isinstance(details.get("path"), str):
        details["path"] = _PLACE.sub(step, details["path"], count=1)
    return Refusal(refusal.code, message, details)


def pack_plan(document: DagDocument) -> bytes:
    """The plan of a registered pack as canonical JSON: its nodes by key, with what each depends on
    and reads, and a digest of what it is to do."""
    nodes = prepare_nodes(document.jobs)
    assert not isinstance(nodes, Refusal), "it was refused when it was registered"
    jobs = tuple(each.node for each in nodes)
    return canonical_definition(RunDefinition(fail_fast=document.fail_fast, jobs=jobs))


def plan_hash(document: DagDocument) -> str:
    return digest(pack_plan(document))


def plan_pack(record: RunRecord, body: bytes) -> PlannedRun | Refusal:
    """As ``plan_dag``, of a registered pack, which ``record`` names. A run token stands for one
    pack, so its digest is a part of what the run is."""
    assert record.pack is not None
    planned = plan_dag(record, body)
    if isinstance(planned, Refusal):
        return planned
    does = digest(canonical_of([planned.record.inputs_hash, record.pack.digest]))
    record = msgspec.structs.replace(planned.record, inputs_hash=does)
    return msgspec.structs.replace(planned, record=record)
