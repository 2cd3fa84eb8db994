"""What the nodes of a run are to do, as doors give it: jobs, templates, conditions and specs.

Definitions. A *spec* is the payload of a node that has no worker: what it stands for. Of a ``map``
it is a ``MapSpec``, of a ``policy`` a ``PolicySpec``, of a ``sub_run`` a ``SubRunSpec``; of an
``approval`` and a ``callback`` it is what a caller likes to tell whoever answers, a template like
the payload of a job.

I1  What a template, a condition or a spec reads are results of nodes that it depends on, so they
    are there when it is evaluated.
I2  A definition has no unique key and is not held: both would let something else than the run
    decide when its job starts.

Not here: request documents (the doors), the graph and the jobs (``run_plan``), evaluating
(``run_sheet``).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from jobengine.domain.canonical import EMPTY_OBJECT, digest
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.expression import parse_expression
from jobengine.domain.graph import Edge
from jobengine.domain.job import Definition
from jobengine.domain.node import WORKERLESS_PREFIX, Node, NodeKind
from jobengine.domain.template import parse_template

__all__ = [
    "ENVIRONMENT",
    "ITEM_ENVIRONMENT",
    "TEMPLATED",
    "MapSpec",
    "NodeJob",
    "PolicySpec",
    "SubRunSpec",
    "decode_nodes",
    "encode_nodes",
    "prepare_nodes",
    "reads_of",
    "workerless",
]

ENVIRONMENT: Final = frozenset({"callbacks", "inputs", "results", "run"})
"""What expressions of a node may look at."""
ITEM_ENVIRONMENT: Final = ENVIRONMENT | {"index", "item"}
"""What the payload of a ``map`` node's instances may look at."""


class NodeJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A node and the job that it is to be. ``definition`` says nothing of the run; ``payload`` is
    canonical JSON: the payload of the job, a template of one, or a spec."""

    definition: Definition
    node: Node
    payload: msgspec.Raw


class MapSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``over`` is the expression whose list is mapped; ``definition`` and ``payload``, a template
    that sees ``item`` and ``index`` too, are of the job that each place of it becomes."""

    definition: Definition
    over: str
    payload: msgspec.Raw


class PolicySpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``require`` is the condition under which the run goes on."""

    require: str


class SubRunSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A run of the registered DAG ``dag_id``, its newest version unless one is named. ``inputs``
    is a template."""

    dag_id: str
    inputs: msgspec.Raw = msgspec.Raw(EMPTY_OBJECT)
    version: int | None = None


# The fields of a definition stand sorted; what is left to sort are the names of its labels.
_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decode_nodes: Final = msgspec.json.Decoder(tuple[NodeJob, ...]).decode
TEMPLATED: Final = frozenset({NodeKind.JOB, NodeKind.APPROVAL, NodeKind.CALLBACK})
"""Kinds of nodes whose payload is a template, where it is no constant."""


def encode_nodes(nodes: Sequence[NodeJob]) -> bytes:
    """Prepared nodes as the ``body`` of an ``ExtendRun``."""
    return _encode(nodes)


def decode_nodes(body: bytes) -> tuple[NodeJob, ...]:
    return _decode_nodes(body)


def workerless(kind: NodeKind, labels: Mapping[str, str] | None = None) -> Definition:
    """The definition of a node that no worker takes, but for its payload's digest."""
    job_type = WORKERLESS_PREFIX + kind.value
    return Definition(
        job_type=job_type,
        labels=dict(labels or {}),
        max_retries=0,
        payload_digest="",
        queue=job_type,
    )


def prepare_nodes(
    nodes: Sequence[NodeJob],
    edges: Iterable[Edge] = (),
    inputs: Collection[str] = (),
) -> Sequence[NodeJob] | Refusal:
    """Nodes with what they read and the digest of what they do; the first thing wrong with one of
    them, of what can be seen without the rest of the run. ``inputs`` are those that expressions may
    look at, where that is known.

    Doors prepare the nodes of a growth by this; ``plan_run`` does it itself.
    """
    late: dict[str, set[str]] = {}
    for edge in edges:
        late.setdefault(edge.target, set()).add(edge.source)
    names = ENVIRONMENT | {f"inputs.{name}" for name in inputs}
    prepared: list[NodeJob] = []
    for place, each in enumerate(nodes):
        path = f"jobs[{place}]"
        reads = _reads_of(each, path, names)
        refusal = reads if isinstance(reads, Refusal) else _refuse_definition(each, path)
        if isinstance(reads, Refusal) or refusal is not None:
            assert refusal is not None
            return refusal
        when = _reads_of_condition(each.node.when, f"{path}.when", names)
        if isinstance(when, Refusal):
            return when
        if reads or when:
            known = {*each.node.depends_on, *late.get(each.node.key, ())}
            for key in sorted({*(reads or ()), *when}):
                if key not in known:
                    why = f"reads the result of {key[:160]!r} and does not depend on it"
                    return _invalid(f"{path}.dependsOn", f"{why}; name it there")
        prepared.append(_with_node(each, reads))
    return prepared


def reads_of(each: NodeJob, path: str) -> Sequence[str] | Refusal:
    """The keys, sorted, whose results the payload and the condition of a node read. ``path`` is its
    place in the document, for the refusal of an expression."""
    payload = _reads_of(each, path, ENVIRONMENT)
    if isinstance(payload, Refusal):
        return payload
    when = _reads_of_condition(each.node.when, f"{path}.when", ENVIRONMENT)
    return when if isinstance(when, Refusal) else sorted({*(payload or ()), *when})


def _with_node(each: NodeJob, reads: Sequence[str] | None) -> NodeJob:
    definition = msgspec.structs.replace(
        each.definition,
        correlation_id="",
        payload_digest=digest(bytes(each.payload)),
        traceparent=None,
    )
    node = msgspec.structs.replace(
        each.node,
        digest=digest(_encode(definition)),
        reads=None if reads is None else tuple(reads),
    )
    return msgspec.structs.replace(each, node=node)


def _refuse_definition(each: NodeJob, path: str) -> Refusal | None:
    definition = each.definition
    if definition.unique_key is not None:
        return _invalid(f"{path}.uniqueKey", "jobs of a run are unique by run token and key")
    if definition.hold:
        return _invalid(f"{path}.hold", "jobs of a run wait for approval nodes; add one")
    by_engine = definition.job_type.startswith(WORKERLESS_PREFIX)
    if by_engine != (each.node.kind is not NodeKind.JOB):
        why = f"types with {WORKERLESS_PREFIX} are the engine's; take another"
        return _invalid(f"{path}.jobType", why)
    return None


def _reads_of(each: NodeJob, path: str, names: frozenset[str]) -> Sequence[str] | Refusal | None:
    """Whose results the payload reads; None: there is nothing to be evaluated in it."""
    kind = each.node.kind
    if kind in TEMPLATED:
        template = parse_template(bytes(each.payload), names, f"{path}.payload")
        if isinstance(template, Refusal):
            return template
        return None if template.constant else template.reads
    try:
        match kind:
            case NodeKind.MAP:
                spec = msgspec.json.decode(each.payload, type=MapSpec)
                return _reads_of_map(spec, path, names)
            case NodeKind.POLICY:
                policy = msgspec.json.decode(each.payload, type=PolicySpec)
                return _reads_of_condition(policy.require, f"{path}.require", names)
            case NodeKind.SUB_RUN:
                run = msgspec.json.decode(each.payload, type=SubRunSpec)
                return _reads_of_sub_run(run, path, names)
            case _:
                return None
    except msgspec.ValidationError as error:
        return _invalid(f"{path}.payload", f"is no {kind}: {error}")


def _reads_of_map(spec: MapSpec, path: str, names: frozenset[str]) -> Sequence[str] | Refusal:
    if spec.definition.job_type.startswith(WORKERLESS_PREFIX):
        return _invalid(f"{path}.job.jobType", "a list is mapped to jobs that workers take")
    if spec.definition.unique_key is not None:
        return _invalid(f"{path}.job.uniqueKey", "jobs of a run are unique by run token and key")
    if spec.definition.hold:
        return _invalid(f"{path}.job.hold", "jobs of a run wait for approval nodes; add one")
    over = parse_expression(spec.over, names, f"{path}.over")
    template = parse_template(bytes(spec.payload), names | ITEM_ENVIRONMENT, f"{path}.job.payload")
    if isinstance(over, Refusal):
        return over
    if isinstance(template, Refusal):
        return template
    return sorted({*over.reads, *template.reads})


def _reads_of_sub_run(
    spec: SubRunSpec, path: str, names: frozenset[str]
) -> Sequence[str] | Refusal:
    template = parse_template(bytes(spec.inputs), names, f"{path}.inputs")
    return template if isinstance(template, Refusal) else template.reads


def _reads_of_condition(
    text: str | None, path: str, names: frozenset[str]
) -> Sequence[str] | Refusal:
    if text is None:
        return ()
    expression = parse_expression(text, names, path)
    return expression if isinstance(expression, Refusal) else sorted(expression.reads)


def _invalid(path: str, why: str) -> Refusal:
    return Refusal(ErrorCode.RUN_INVALID, f"{path}: {why}", {"path": path})
