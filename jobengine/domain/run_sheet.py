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
from typing import Any, Final, TypeVar

import attrs
import msgspec

from jobengine.domain.errors import Refusal
from jobengine.domain.expression import Expression, ExpressionError, parse_expression
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

__all__ = ["PAYLOAD_BYTES_MAX", "Environment", "EvaluationError", "RunSheet", "SignCallback"]

PAYLOAD_BYTES_MAX: Final = 256 * 1024
"""Of a payload that was filled in, as of any other."""

Environment = Mapping[str, Any]
SignCallback = Callable[[str, str, str], str]
"""Tenant, run and key of a ``callback`` node, to the address that completes it."""

T = TypeVar("T")


class EvaluationError(Exception):
    """What a node says has no value here; the message names the expression and says why."""


@attrs.frozen(kw_only=True, eq=False)
class RunSheet:
    """``places`` counts the instances of the ``map`` nodes that have been expanded."""

    record: RunRecord
    ids: JobIds
    nodes: Mapping[str, Node]
    templates: Mapping[str, bytes]
    kept: Mapping[str, str]
    places: Mapping[str, int]
    callbacks: Sequence[str]

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
            reads |= _expression(node.when, "when").reads
        return reads

    def _jobs_of(self, key: str) -> list[str]:
        if not self.is_map(key):
            return [self.job_id(key)]
        return [self.job_id(f"{key}[{place}]") for place in range(self.places.get(key, 0))]

    # ---- what is evaluated

    def environment(
        self, key: str, results: Mapping[str, Any], sign: SignCallback | None = None
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
        environment: dict[str, Any] = {
            "inputs": msgspec.json.decode(record.inputs), "results": known, "run": run
        }  # fmt: skip
        says = self.templates.get(key, b"") + (self.nodes[key].when or "").encode()
        if sign is not None and b"callbacks" in says:
            environment["callbacks"] = {
                each: sign(record.tenant_id, record.run_id, each) for each in self.callbacks
            }
        return environment

    def goes_on(self, key: str, environment: Environment) -> bool:
        """Whether the condition of the node holds, if it has one. Raises ``EvaluationError``."""
        when = self.nodes[key].when
        return when is None or _holds(when, environment)

    def is_filled_in(self, key: str) -> bool:
        """Whether the payload of the node's job is to be made of a template."""
        node = self.nodes[key]
        return node.reads is not None and node.kind in TEMPLATED

    def payload(self, key: str, environment: Environment) -> bytes:
        """The template of the node, filled in. Raises ``EvaluationError``."""
        return _fill(_template(self.templates[key], ENVIRONMENT), environment)

    def requires(self, key: str, environment: Environment) -> tuple[bool, str]:
        """Whether a policy lets the run go on, and its condition. Raises ``EvaluationError``."""
        require = self._spec(key, PolicySpec).require
        return _holds(require, environment), require

    def places_of(self, key: str, environment: Environment) -> Sequence[Any]:
        """The list of a ``map`` node. Raises ``EvaluationError``."""
        over = self._spec(key, MapSpec).over
        try:
            places = _expression(over, "over").evaluate(environment)
        except ExpressionError as error:
            raise EvaluationError(str(error)) from None
        if not isinstance(places, list):
            raise EvaluationError(f"${{{over}}}: a list is mapped, not {type(places).__name__}")
        return places

    def instances(self, key: str, nodes: Sequence[Node], environment: Environment) -> list[NodeJob]:
        """What the instances of a ``map`` node do, a node for each place of its list. Raises
        ``EvaluationError``."""
        spec = self._spec(key, MapSpec)
        template, places = (
            _template(bytes(spec.payload), ITEM_ENVIRONMENT),
            self.places_of(key, environment),
        )
        made = []
        for index, (node, item) in enumerate(zip(nodes, places, strict=True)):
            payload = bytes(spec.payload)
            if not template.constant:
                payload = _fill(template, {**environment, "item": item, "index": index})
            raw = msgspec.Raw(payload)
            made.append(NodeJob(definition=spec.definition, node=node, payload=raw))
        return made

    def sub_run(self, key: str, environment: Environment) -> tuple[SubRunSpec, bytes]:
        """What a sub-run is of, and its inputs, filled in. Raises ``EvaluationError``."""
        spec = self._spec(key, SubRunSpec)
        return spec, _fill(_template(bytes(spec.inputs), ENVIRONMENT), environment)

    def _spec(self, key: str, kind: type[T]) -> T:
        return msgspec.json.decode(self.templates[key], type=kind)


def _expression(text: str, path: str) -> Expression:
    parsed = parse_expression(text, ENVIRONMENT, path)
    assert isinstance(parsed, Expression), "it was parsed when the run was planned"
    return parsed


def _template(text: bytes, names: frozenset[str]) -> Template:
    parsed = parse_template(text, names, "payload")
    assert not isinstance(parsed, Refusal), "it was parsed when the run was planned"
    return parsed


def _holds(text: str, environment: Environment) -> bool:
    try:
        return _expression(text, "when").holds(environment)
    except ExpressionError as error:
        raise EvaluationError(str(error)) from None


def _fill(template: Template, environment: Environment) -> bytes:
    try:
        return template.fill(environment, PAYLOAD_BYTES_MAX)
    except TemplateError as error:
        raise EvaluationError(str(error)) from None
