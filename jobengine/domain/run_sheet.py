"""What the nodes of a run say: their conditions, templates and specs, evaluated on what is known.

A sheet is made of a run as it is stored, its record and its parts, and of nothing else; results are
read by whoever asks, and come in by job id.

I1  The same sheet and the same results give the same answers, so what was evaluated and lost with a
    restart may be evaluated again.
I2  The result of a ``map`` node is the list of its instances' results, in their order. A job
    without a result has null.

Not here: reading (the planner's shell), what may stand in a run (``run_nodes``).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import attrs
import msgspec

from jobengine.domain.errors import Refusal
from jobengine.domain.expression import Expression, ExpressionError, parse_expression
from jobengine.domain.expression_effort import Effort
from jobengine.domain.instant import to_rfc3339
from jobengine.domain.node import Node, NodeKind
from jobengine.domain.run import JobIds
from jobengine.domain.run_nodes import (
    ENVIRONMENT,
    ITEM_ENVIRONMENT,
    TEMPLATED,
    MapSpec,
    NodeJob,
    PolicySpec,
    SubRunSpec,
)
from jobengine.domain.run_part import RunPart
from jobengine.domain.run_record import RunRecord
from jobengine.domain.template import Template, TemplateError, parse_template

__all__ = [
    "EXPANSION_BYTES_MAX",
    "PAYLOAD_BYTES_MAX",
    "Environment",
    "EvaluationError",
    "ListChangedError",
    "Results",
    "RunSheet",
    "SignCallback",
]

EXPANSION_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of all jobs that a ``map`` node becomes, since one commit creates them."""
PAYLOAD_BYTES_MAX: Final = 256 * 1024
"""Of a payload that was filled in, as of any other."""
_DECODED: Final = 16
"""What a byte of JSON may come to in memory."""
_SIGNED: Final = 512
"""Bytes that are parsed while one address is signed."""

Environment = Mapping[str, Any]
SignCallback = Callable[[str, str, str], str]
"""Tenant, run and key of a ``callback`` node, to the address that completes it."""

T = TypeVar("T")


class Results(Protocol):
    """Results by job id, as a mapping has them."""

    def get(self, key: str, /) -> Any: ...


class EvaluationError(Exception):
    """What a node says has no value here; the message names the expression and says why."""


class ListChangedError(EvaluationError):
    """The list of a ``map`` node has another length than when it was counted."""


@attrs.frozen(kw_only=True, eq=False)
class RunSheet:
    """``places`` counts the instances of the ``map`` nodes that have been expanded; ``size`` is
    about what texts and inputs take, in bytes. What follows from the sheet alone is made once."""

    record: RunRecord
    ids: JobIds
    nodes: Mapping[str, Node]
    templates: Mapping[str, bytes]
    kept: Mapping[str, str]
    places: Mapping[str, int]
    callbacks: Sequence[str]
    size: int
    _known: dict[str, Any] = attrs.field(init=False, factory=dict)

    @classmethod
    def of(cls, record: RunRecord, parts: Iterable[RunPart]) -> "RunSheet":
        nodes, templates = dict[str, Node](), dict[str, bytes]()
        kept, places, callbacks = dict[str, str](), dict[str, int](), list[str]()
        for part in parts:
            kept.update(part.kept)
            templates.update((key, bytes(text)) for key, text in part.templates.items())
            for node in part.nodes:
                nodes[node.key] = node
                if node.of is not None:
                    places[node.of] = places.get(node.of, 0) + 1
                elif node.kind is NodeKind.CALLBACK:
                    callbacks.append(node.key)
        return cls(
            record=record,
            ids=JobIds(record.tenant_id, record.run_token, record.created_at),
            nodes=nodes,
            templates=templates,
            kept=kept,
            places=places,
            callbacks=callbacks,
            size=sum(map(len, templates.values())) + _DECODED * len(record.inputs),
        )

    # ---- what is to be read

    def is_map(self, key: str) -> bool:
        node = self.nodes.get(key)
        return node is not None and node.kind is NodeKind.MAP

    def job_id(self, key: str) -> str:
        """The job whose result is that of the node: in a rerun it may be of an earlier run."""
        return self.kept.get(key) or self.ids.of(key)

    def sources(self, keys: Iterable[str]) -> list[str]:
        """The jobs whose results are read for these nodes."""
        found = dict[str, None]()
        for key in keys:
            for read in self._reads(key):
                found.update(dict.fromkeys(self._jobs_of(read)))
        return list(found)

    def _reads(self, key: str) -> set[str]:
        node = self.nodes[key]
        reads = set(node.reads or ())
        if node.when is not None:
            when = parse_expression(node.when, ENVIRONMENT, "when")
            reads |= when.reads if isinstance(when, Expression) else set()
        return reads

    def _jobs_of(self, key: str) -> list[str]:
        if not self.is_map(key):
            return [self.job_id(key)]
        return [self.job_id(f"{key}[{place}]") for place in range(self.places.get(key, 0))]

    # ---- what is evaluated

    def bytes_read(self, key: str, *, signed: bool) -> int:
        """What is parsed, or takes as long, before a node has its environment, without results."""
        size = len(self.templates.get(key, b""))
        if "inputs" not in self._known:
            size += len(self.record.inputs)
        if signed and "callbacks" not in self._known and self._names_callbacks(key):
            size += _SIGNED * len(self.callbacks)
        return size

    def environment(
        self, key: str, results: Results, sign: SignCallback | None = None
    ) -> Environment:
        """What the expressions of a node look at; ``results`` by job id."""
        record, known = self.record, dict[str, Any]()
        for read in self._reads(key):
            values = [results.get(job_id) for job_id in self._jobs_of(read)]
            known[read] = values if self.is_map(read) else values[0]
        run = {
            "createdAt": to_rfc3339(record.created_at),
            "dagId": record.dag_id,
            "dagVersion": record.dag_version,
            "projectId": record.project_id,
            "runId": record.run_id,
            "runToken": record.run_token,
            "tenantId": record.tenant_id,
        }
        environment: dict[str, Any] = {"inputs": self._inputs(), "results": known, "run": run}
        if sign is not None and self._names_callbacks(key):
            environment["callbacks"] = self._signed(sign)
        return environment

    def _names_callbacks(self, key: str) -> bool:
        when = self.nodes[key].when
        return b"callbacks" in self.templates.get(key, b"") or "callbacks" in (when or "")

    def _inputs(self) -> Any:
        if "inputs" not in self._known:
            self._known["inputs"] = msgspec.json.decode(self.record.inputs)
        return self._known["inputs"]

    def _signed(self, sign: SignCallback) -> Any:
        """The address of each callback, by key."""
        known, tenant_id, run_id = self._known, self.record.tenant_id, self.record.run_id
        if "callbacks" not in known:
            known["callbacks"] = {key: sign(tenant_id, run_id, key) for key in self.callbacks}
        return known["callbacks"]

    def goes_on(self, key: str, environment: Environment, effort: Effort | None = None) -> bool:
        """Whether the condition of the node holds, if it has one. Raises ``EvaluationError``."""
        when = self.nodes[key].when
        return when is None or _holds(when, environment, effort)

    def is_filled_in(self, key: str) -> bool:
        """Whether the payload of the node's job is to be made of a template."""
        node = self.nodes[key]
        return node.reads is not None and node.kind in TEMPLATED

    def payload(self, key: str, environment: Environment, effort: Effort | None = None) -> bytes:
        """The template of the node, filled in. Raises ``EvaluationError``."""
        return _fill(_template(self.templates[key], ENVIRONMENT), environment, effort)

    def requires(
        self, key: str, environment: Environment, effort: Effort | None = None
    ) -> tuple[bool, str]:
        """Whether a policy lets the run go on, and its condition. Raises ``EvaluationError``."""
        require = self._spec(key, PolicySpec).require
        return _holds(require, environment, effort), require

    def places_of(
        self, key: str, environment: Environment, effort: Effort | None = None
    ) -> Sequence[Any]:
        """The list of a ``map`` node. Raises ``EvaluationError``."""
        over = self._spec(key, MapSpec).over
        try:
            places = _expression(over, "over").evaluate(environment, effort)
        except ExpressionError as error:
            raise EvaluationError(str(error)) from None
        if not isinstance(places, list):
            raise EvaluationError(f"${{{over}}}: a list is mapped, not {type(places).__name__}")
        return places

    def instances(
        self,
        key: str,
        nodes: Sequence[Node],
        environment: Environment,
        effort: Effort | None = None,
    ) -> list[NodeJob]:
        """What the instances of a ``map`` node do, a node for each place of its list. Raises
        ``EvaluationError``, ``ListChangedError`` where there are more places or fewer."""
        effort = effort or Effort()
        spec = self._spec(key, MapSpec)
        template = _template(bytes(spec.payload), ITEM_ENVIRONMENT)
        places = self.places_of(key, environment, effort)
        if len(places) != len(nodes):
            raise ListChangedError(f"${{{spec.over}}} has {len(places)} places, not {len(nodes)}")
        size_of_rest = len(self.templates[key]) - len(spec.payload)
        made, left = list[NodeJob](), EXPANSION_BYTES_MAX
        for index, (node, item) in enumerate(zip(nodes, places, strict=True)):
            payload = bytes(spec.payload)
            if not template.constant:
                around = {**environment, "item": item, "index": index}
                payload = _fill(template, around, effort)
            left -= len(payload) + size_of_rest
            if left < 0:
                why = f"the jobs of its {len(places)} places take more than {EXPANSION_BYTES_MAX}"
                raise EvaluationError(f"{why} bytes; give them references to what is large")
            raw = msgspec.Raw(payload)
            made.append(NodeJob(definition=spec.definition, node=node, payload=raw))
        return made

    def sub_run(
        self, key: str, environment: Environment, effort: Effort | None = None
    ) -> tuple[SubRunSpec, bytes]:
        """What a sub-run is of, and its inputs, filled in. Raises ``EvaluationError``."""
        spec = self._spec(key, SubRunSpec)
        return spec, _fill(_template(bytes(spec.inputs), ENVIRONMENT), environment, effort)

    def _spec(self, key: str, kind: type[T]) -> T:
        return msgspec.json.decode(self.templates[key], type=kind)


def _expression(text: str, path: str) -> Expression:
    parsed = parse_expression(text, ENVIRONMENT, path)
    if isinstance(parsed, Refusal):  # it was parsed when the run was planned, maybe less strictly
        raise EvaluationError(parsed.message)
    return parsed


def _template(text: bytes, names: frozenset[str]) -> Template:
    parsed = parse_template(text, names, "payload")
    if isinstance(parsed, Refusal):
        raise EvaluationError(parsed.message)
    return parsed


def _holds(text: str, environment: Environment, effort: Effort | None) -> bool:
    try:
        return _expression(text, "when").holds(environment, effort)
    except ExpressionError as error:
        raise EvaluationError(str(error)) from None


def _fill(template: Template, environment: Environment, effort: Effort | None) -> bytes:
    try:
        return template.fill(environment, PAYLOAD_BYTES_MAX, effort)
    except TemplateError as error:
        raise EvaluationError(str(error)) from None
