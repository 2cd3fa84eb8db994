"""From the steps of a pack as they are written to steps as they are compiled.

Not here: fields that every job has (``translate``), what a node may say (``translate_runs``).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, assert_never

from jobengine.domain.errors import Refusal
from jobengine.domain.pack import with_paths
from jobengine.domain.pack_steps import Conditional, Parallel, Step, Work
from jobengine.domain.redaction import Redactor
from jobengine.domain.run_nodes import NodeJob
from jobengine.wire.jobs import JobRequest
from jobengine.wire.packs import (
    ApprovalStep,
    ConditionalStep,
    MapStep,
    PackStep,
    ParallelStep,
    PolicyStep,
    RunStep,
)
from jobengine.wire.runs import NodeRequest
from jobengine.wire.translate_runs import node_jobs

__all__ = ["pack_steps"]

_JOB_FIELDS: Final = JobRequest.__struct_fields__
_Leaf = RunStep | MapStep | ApprovalStep | PolicyStep


def pack_steps(steps: Sequence[PackStep], *, redactor: Redactor) -> list[Step] | Refusal:
    """The steps in the words of the domain. A refusal names the place in ``steps``.

    Takes some 0.05 ms a step; depends on its arguments alone.
    """
    leaves = list(_leaves(steps, "steps"))
    requests = [_node_request(leaf, str(place)) for place, (_, leaf) in enumerate(leaves)]
    nodes = node_jobs(requests, (), templates=True, redactor=redactor)
    if isinstance(nodes, Refusal):
        return with_paths(nodes, [path for path, _ in leaves])
    return _steps(steps, iter(nodes))


def _leaves(steps: Sequence[PackStep], path: str) -> Iterator[tuple[str, _Leaf]]:
    """Steps that are one node each, in the order of the document, with their paths."""
    for place, step in enumerate(steps):
        here = f"{path}[{place}]"
        match step:
            case ParallelStep():
                for number, branch in enumerate(step.branches):
                    yield from _leaves(branch, f"{here}.branches[{number}]")
            case ConditionalStep():
                yield from _leaves(step.then, f"{here}.then")
                yield from _leaves(step.otherwise, f"{here}.else")
            case _:
                yield here, step


def _steps(steps: Sequence[PackStep], nodes: Iterator[NodeJob]) -> list[Step]:
    """``nodes`` has those of ``_leaves``, in the same order."""
    made: list[Step] = []
    for step in steps:
        match step:
            case ParallelStep():
                branches = [_steps(branch, nodes) for branch in step.branches]
                made.append(Parallel(key=step.key, branches=branches))
            case ConditionalStep():
                then, otherwise = _steps(step.then, nodes), _steps(step.otherwise, nodes)
                made.append(
                    Conditional(key=step.key, when=step.when, then=then, otherwise=otherwise)
                )
            case _:
                made.append(Work(key=step.key, job=next(nodes)))
    return made


def _node_request(step: _Leaf, key: str) -> NodeRequest:
    """The node of a step; its key in the run is given by where the step stands."""
    match step:
        case RunStep():
            return NodeRequest(**_job_fields(step), key=key, template=step.template)
        case MapStep():
            return NodeRequest(
                **_job_fields(step),
                key=key,
                kind="map",
                template=step.template,
                over=step.over,
                join=step.join,
            )
        case ApprovalStep():
            return NodeRequest(key=key, kind="approval", message=step.message, labels=step.labels)
        case PolicyStep():
            return NodeRequest(key=key, kind="policy", require=step.require, labels=step.labels)
        case _:
            assert_never(step)


def _job_fields(step: RunStep | MapStep) -> dict[str, Any]:
    return {name: getattr(step, name) for name in _JOB_FIELDS}
