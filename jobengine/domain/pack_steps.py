"""The steps of a pack, and the nodes of a run that they compile to.

Steps of a list run one after another, lists of a ``Parallel`` side by side, and of a
``Conditional`` one list or the other. A *path* is the place of a step in its document, a *key* its
name in the run: those of the steps around it and its own, with points between.

A step without a worker of its own becomes nodes of kind ``policy`` that always let the run go on:

- ``Parallel`` ``p``: a join ``p`` behind the last steps of all lists.
- ``Conditional`` ``c``: ``c.then`` where the condition holds, ``c.else`` where it does not, each
  with its list behind it, and a join ``c`` that any of the two lists lets go on.

I1  Each step ends with the node of its key, which completes only if everything in the step did that
    had to: what stands behind a step depends on that one node.
I2  Exactly one list of a ``Conditional`` is taken, or the node that decides has failed. So
    ``any_succeeded`` of their ends says that the taken list succeeded, while ``none_failed`` would
    also hold where both were cancelled for a failure before them.
I3  A result is read only of a step that has ended with one whenever the reader may start. What is
    read becomes a dependency, and never changes what the reader waits for.
I4  Equal steps give equal nodes, in the same order.

Not here: how a pack is written (``wire/packs``), what is registered of it (``pack``).
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, assert_never

import attrs
import msgspec

from jobengine.domain.errors import ErrorCode, Refusal, RefusedError
from jobengine.domain.expression import parse_expression
from jobengine.domain.node import Node, NodeKind
from jobengine.domain.run_nodes import ENVIRONMENT, NodeJob, PolicySpec, reads_of, workerless
from jobengine.domain.trigger_rule import TriggerRule

__all__ = [
    "CONDITION_MAX",
    "CompiledPack",
    "Conditional",
    "Parallel",
    "Step",
    "Work",
    "compile_steps",
]

CONDITION_MAX: Final = 1000
"""Characters of a condition; its negation is an expression too."""
_WITH_RESULTS: Final = (NodeKind.JOB, NodeKind.MAP)


@attrs.frozen(kw_only=True)
class Work:
    """One node: what ``job`` does, but for its key and what it depends on."""

    key: str
    job: NodeJob


@attrs.frozen(kw_only=True)
class Parallel:
    """Lists that run side by side; their keys are those of one step."""

    key: str
    branches: "Sequence[Sequence[Step]]"


@attrs.frozen(kw_only=True)
class Conditional:
    """``then`` where the expression ``when`` is true, ``otherwise`` where it is false."""

    key: str
    when: str
    then: "Sequence[Step]"
    otherwise: "Sequence[Step]" = ()


Step = Work | Parallel | Conditional


@attrs.frozen(kw_only=True)
class CompiledPack:
    """``paths`` has, for each node, the place of the step that it came of."""

    nodes: Sequence[NodeJob]
    paths: Sequence[str]


class _Spot(NamedTuple):
    """A place in one of the lists around a step. ``optional``: a condition decides on the list,
    which is of the step ``of``."""

    list: str
    place: int
    of: str
    optional: bool


@attrs.frozen(kw_only=True)
class _Made:
    path: str
    spots: tuple[_Spot, ...]
    job: NodeJob


class _List(NamedTuple):
    """Steps and where they stand: ``prefix`` begins their keys, ``spots`` are of the steps around
    them; the rest is of their own spots."""

    steps: "Sequence[Step]"
    path: str
    prefix: str
    spots: tuple[_Spot, ...]
    name: str
    of: str = ""
    optional: bool = False


def compile_steps(steps: Sequence[Step]) -> CompiledPack | Refusal:
    """The nodes of the steps, in the order of the document. A refusal names the path of a step."""
    compiler = _Compiler()
    try:
        compiler.steps(_List(steps, "steps", "", (), ""), ())
        made = compiler.made
        nodes = [_linked(each, made) for each in made.values()]
    except RefusedError as error:
        return error.refusal
    return CompiledPack(nodes=nodes, paths=[each.path for each in made.values()])


# ---- compiling


class _Compiler:
    """``made`` by key, in the order of the document."""

    def __init__(self) -> None:
        self.made: dict[str, _Made] = {}

    def steps(self, steps: _List, after: tuple[str, ...]) -> tuple[str, ...]:
        """Compile a list; the key that what stands behind it depends on."""
        for place, step in enumerate(steps.steps):
            path = f"{steps.path}[{place}]"
            spot = _Spot(steps.name, place, steps.of, steps.optional)
            after = (self._step(step, path, steps.prefix, (*steps.spots, spot), after),)
        return after

    def _step(
        self, step: Step, path: str, prefix: str, spots: tuple[_Spot, ...], after: tuple[str, ...]
    ) -> str:
        key = prefix + step.key
        self._refuse_taken(key, path)
        match step:
            case Work():
                self._add(key, path, spots, _placed(step.job, key, after))
            case Parallel():
                self._parallel(step, key, path, spots, after)
            case Conditional():
                self._conditional(step, key, path, spots, after)
            case _:
                assert_never(step)
        return key

    def _parallel(
        self, step: Parallel, key: str, path: str, spots: tuple[_Spot, ...], after: tuple[str, ...]
    ) -> None:
        ends = [
            end
            for place, branch in enumerate(step.branches)
            for end in self.steps(
                _List(branch, f"{path}.branches[{place}]", f"{key}.", spots, f"{key}/{place}"),
                after,
            )
        ]
        self._add(key, path, spots, _junction(key, tuple(dict.fromkeys(ends))))

    def _conditional(
        self,
        step: Conditional,
        key: str,
        path: str,
        spots: tuple[_Spot, ...],
        after: tuple[str, ...],
    ) -> None:
        condition = parse_expression(step.when, ENVIRONMENT, f"{path}.when")
        if isinstance(condition, Refusal):
            raise RefusedError(condition)
        # Only what is false takes the other list: what is neither fails the run at `then`.
        branches = (
            ("then", step.then, step.when),
            ("else", step.otherwise, f"({step.when}) == `false`"),
        )
        ends: list[str] = []
        for name, branch, when in branches:
            entry = f"{key}.{name}"
            self._add(entry, path, spots, _junction(entry, after, when=when))
            inside = _List(branch, f"{path}.{name}", f"{entry}.", spots, entry, key, optional=True)
            ends += self.steps(inside, (entry,))
        self._add(key, path, spots, _junction(key, tuple(ends), TriggerRule.ANY_SUCCEEDED))

    def _add(self, key: str, path: str, spots: tuple[_Spot, ...], job: NodeJob) -> None:
        self.made[key] = _Made(path=path, spots=spots, job=job)

    def _refuse_taken(self, key: str, path: str) -> None:
        if key in self.made:
            other = self.made[key].path
            raise _refused(f"{path}.key", f"{key!r} is the key of {other} already; take another")


def _placed(job: NodeJob, key: str, after: tuple[str, ...]) -> NodeJob:
    return msgspec.structs.replace(
        job, node=msgspec.structs.replace(job.node, key=key, depends_on=after)
    )


def _junction(
    key: str,
    after: tuple[str, ...],
    trigger: TriggerRule = TriggerRule.ALL_SUCCEEDED,
    when: str | None = None,
) -> NodeJob:
    return NodeJob(
        definition=workerless(NodeKind.POLICY),
        node=Node(key=key, kind=NodeKind.POLICY, depends_on=after, trigger=trigger, when=when),
        payload=_GOES_ON,
    )


_GOES_ON: Final = msgspec.Raw(msgspec.json.encode(PolicySpec(require="`true`")))


# ---- what steps read


def _linked(each: _Made, made: Mapping[str, _Made]) -> NodeJob:
    """The node, which depends on what it reads."""
    reads = reads_of(each.job, each.path)
    if isinstance(reads, Refusal):
        raise RefusedError(reads)
    if not reads:
        return each.job
    node = each.job.node
    for key in reads:
        why = _why_not_read(key, each, made)
        if why is not None:
            raise _refused(each.path, f"{node.key!r} reads the result of {key[:160]!r}, {why}")
    depends_on = tuple(dict.fromkeys((*node.depends_on, *reads)))
    return msgspec.structs.replace(
        each.job, node=msgspec.structs.replace(node, depends_on=depends_on)
    )


def _why_not_read(key: str, reader: _Made, made: Mapping[str, _Made]) -> str | None:
    source = made.get(key)
    if source is None:
        return "and there is no step of that key"
    for level, (its, ours) in enumerate(zip(source.spots, reader.spots, strict=False)):
        if its.list != ours.list:
            return "which runs beside it and not before it"
        if its.place != ours.place:
            if its.place > ours.place:
                return "which does not come before it"
            return _why_no_result(source, source.spots[level + 1 :])
    return "which does not come before it"


def _why_no_result(source: _Made, within: Sequence[_Spot]) -> str | None:
    """Why a step that comes before may have no result; ``within`` are the lists around it alone."""
    for spot in within:
        if spot.optional:
            return (
                f"which may be skipped, for it stands in the conditional {spot.of!r}; "
                "read it within that list"
            )
    kind = source.job.node.kind
    if kind not in _WITH_RESULTS:
        return "which has none; steps with a worker have results"
    return None


def _refused(path: str, why: str) -> RefusedError:
    return RefusedError(Refusal(ErrorCode.RUN_INVALID, f"{path}: {why}", {"path": path}))
