"""DAG templates as they are registered: what a run of one does, and what inputs it takes.

I1  ``DagDocument`` stands in the sorted order of its stored names.
I2  A document that was registered can be planned: its nodes form a graph, its templates parse and
    look at declared inputs only, where any are declared, and its schema is one.

Not here: who registers it, and under which version (the shard), how it was written (the doors).
"""

from typing import Final

import msgspec

from jobengine.domain.canonical import EMPTY_OBJECT, canonical
from jobengine.domain.errors import Refusal
from jobengine.domain.inputs import declared_inputs, refuse_inputs, refuse_schema
from jobengine.domain.run import RunState
from jobengine.domain.run_nodes import NodeJob, prepare_nodes
from jobengine.domain.run_plan import PlannedRun, plan_run
from jobengine.domain.run_record import RunRecord

__all__ = ["DAG", "PACK", "DagDocument", "decode_dag", "encode_dag", "plan_dag", "refuse_dag"]

DAG: Final = "dag"
PACK: Final = "pack"
"""Kinds of registered documents; both are ``DagDocument``s."""


class DagDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """``inputs`` is a JSON Schema, ``request`` the document as its author wrote it."""

    description: str = ""
    fail_fast: bool = False
    inputs: msgspec.Raw = msgspec.Raw(EMPTY_OBJECT)
    jobs: tuple[NodeJob, ...]
    request: msgspec.Raw = msgspec.Raw(EMPTY_OBJECT)


_encode: Final = msgspec.json.Encoder(order="sorted").encode
decode_dag: Final = msgspec.json.Decoder(DagDocument).decode


def encode_dag(document: DagDocument) -> bytes:
    """As canonical JSON. Raises ``NotCanonicalError``."""
    return canonical(_encode(document))


def refuse_dag(document: DagDocument) -> Refusal | None:
    """Why a document cannot be registered; takes some 0.1 ms a node."""
    refusal = refuse_schema(bytes(document.inputs), "inputs")
    if refusal is not None:
        return refusal
    prepared = prepare_nodes(document.jobs, inputs=declared_inputs(bytes(document.inputs)))
    if isinstance(prepared, Refusal):
        return prepared
    planned = plan_run(_ANY_RUN, prepared)
    return planned if isinstance(planned, Refusal) else None


def plan_dag(record: RunRecord, body: bytes) -> PlannedRun | Refusal:
    """The run that ``record`` names, of a registered document. Its inputs are held to the schema;
    a refusal names their place."""
    document = decode_dag(body)
    refusal = refuse_inputs(bytes(document.inputs), record.inputs)
    if refusal is not None:
        return refusal
    fail_fast = record.fail_fast or document.fail_fast
    return plan_run(msgspec.structs.replace(record, fail_fast=fail_fast), document.jobs)


_ANY_RUN: Final = RunRecord(
    tenant_id="",
    run_id="",
    run_token="",
    state=RunState.PENDING,
    nodes=0,
    created_at=0,
    created_by="",
)
