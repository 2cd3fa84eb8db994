"""What a planner's commands need to be evaluated before the shard can carry them out: conditions,
templates, policies, lists.

I1  What is evaluated is told to the planner before the shard is asked for the rest, so nothing that
    was skipped or failed is asked for again when the answer is lost.
I2  A node is opened before what it stands for is looked for, so who reads the run sees it open.
I3  What goes wrong in evaluating a node fails that node, and nothing else.
I4  What is filled in is carried out in parts: with ``_PART_BYTES`` and a payload more, a part ends.

Not here: how values come about (``domain/run_sheet``), where (``evaluation_turns``), sub-runs
(``run_making``).
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

import attrs
import msgspec
import trio

from jobengine.actors.evaluation_turns import EvaluationTurns
from jobengine.actors.run_making import LaterError
from jobengine.actors.run_results import RunResults, Seen
from jobengine.actors.run_sheets import RunSheets
from jobengine.domain.canonical import digest
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.expression_effort import Effort
from jobengine.domain.job import State
from jobengine.domain.node import NodeKind
from jobengine.domain.records import NewJob
from jobengine.domain.run_nodes import NodeJob, SubRunSpec, decode_nodes
from jobengine.domain.run_plan import jobs_of_growth
from jobengine.domain.run_record import RunRecord
from jobengine.domain.run_sheet import EvaluationError, ListChangedError, RunSheet, SignCallback
from jobengine.messages.dag_planner import PlannerMessage
from jobengine.messages.planner_commands import (
    GrowRun,
    NodeRef,
    OpenNode,
    OpenNodes,
    Performed,
    ReleaseJobs,
)
from jobengine.messages.run_facts import ExpandNode, NodeDecided, NodeSkipped
from jobengine.messages.runs import CarryOut, FilledIn, RunCommand

__all__ = ["NodeEvaluation"]

_LARGE: Final = 2_000
_PART_BYTES: Final = 8 * 1024 * 1024
_TEMPLATE_ERROR: Final = "template_error"
_POLICY_DENIED: Final = "policy_denied"
_WAITS_OUTSIDE: Final = frozenset({NodeKind.APPROVAL, NodeKind.CALLBACK})

T = TypeVar("T")

Build = Callable[[int], CarryOut]


class StartSubRun(Protocol):
    async def __call__(
        self, parent: RunRecord, node: OpenNode, spec: SubRunSpec, inputs: bytes, *, find: bool
    ) -> None:
        """Start, or find, the run of an open node, of this spec and on these inputs, and tell of
        its end; with ``find``, start none. Raises ``LaterError``."""


@attrs.define(eq=False)
class NodeEvaluation:
    """``tell`` tells the planner, ``carry_out`` asks the shard and answers for the command."""

    sheets: RunSheets
    sign: SignCallback | None
    tell: Callable[[PlannerMessage], None]
    carry_out: Callable[[RunCommand, Build], Awaitable[PlannerMessage]]
    start_sub_run: StartSubRun
    _turns: EvaluationTurns = attrs.field(init=False, factory=EvaluationTurns)

    async def release(self, command: ReleaseJobs) -> PlannerMessage:
        """Release what goes on, filled in."""
        evaluated = {ref.job_id for ref in command.evaluated}
        left, begins = deque(command.evaluated), command.begins
        job_ids = [job_id for job_id in command.job_ids if job_id not in evaluated]
        done: PlannerMessage = Performed(stamp=command.stamp)
        while isinstance(done, Performed) and (left or job_ids or begins):
            going = await self._evaluate(command, left)
            job_ids += going
            if job_ids or begins:
                part = msgspec.structs.replace(command, job_ids=job_ids, begins=begins)
                done = await self.carry_out(part, _carrying(part, going))
            job_ids, begins = [], False
        return done

    async def open(self, command: OpenNodes) -> PlannerMessage:
        """Open what goes on, then do what each node stands for. Raises ``LaterError``."""
        by_id = {node.job_id: node for node in command.nodes}
        left = deque(NodeRef(node.key, node.job_id) for node in command.nodes if node.evaluated)
        nodes, begins = [node for node in command.nodes if not node.evaluated], command.begins
        done: PlannerMessage = Performed(stamp=command.stamp)
        later: LaterError | None = None
        while isinstance(done, Performed) and (left or nodes or begins):
            going = await self._evaluate(command, left)
            nodes += [by_id[job_id] for job_id in going]
            if nodes or begins:
                part = msgspec.structs.replace(command, nodes=nodes, begins=begins)
                done = await self.carry_out(part, _carrying(part, going))
            if isinstance(done, Performed):
                later = await self._begin(command, nodes, later)
            nodes, begins = [], False
        if later is not None:
            raise later
        return done

    async def grow(self, command: GrowRun) -> Sequence[NewJob] | Refusal:
        """The jobs of a growth."""
        sheet = await self.sheets.of(command.tenant_id, command.run_id)
        large = max(len(command.nodes), len(sheet.nodes)) > _LARGE
        if command.opened is None:
            if large:
                return await trio.to_thread.run_sync(_given_jobs, command, sheet)
            return _given_jobs(command, sheet)
        key = command.opened.key
        results = self._results_for(command.tenant_id, sheet, [key])
        jobs = partial(self._mapped_jobs, command, sheet, key)
        try:
            return await self._take(sheet, key, results, jobs, len(command.nodes), large=large)
        except ListChangedError as error:
            return Refusal(ErrorCode.REVISION_MISMATCH, str(error))
        except EvaluationError as error:
            self._fail(command.run_id, key, _TEMPLATE_ERROR, str(error))
            return Refusal(ErrorCode.TEMPLATE_INVALID, str(error))

    def _mapped_jobs(
        self, command: GrowRun, sheet: RunSheet, key: str, seen: Seen, effort: Effort
    ) -> Sequence[NewJob]:
        environment = sheet.environment(key, seen, self.sign)
        nodes = [new.node for new in command.nodes]
        return _jobs_of(command, sheet, sheet.instances(key, nodes, environment, effort))

    async def _evaluate(
        self, command: ReleaseJobs | OpenNodes, left: deque[NodeRef]
    ) -> dict[str, FilledIn | None]:
        """Take nodes until a part is full (I4): the jobs that go on, with the payloads that were
        filled in. Of those that do not go on it is told."""
        going, size = dict[str, FilledIn | None](), 0
        if not left:
            return going
        sheet = await self.sheets.of(command.tenant_id, command.run_id)
        results = self._results_for(command.tenant_id, sheet, [ref.key for ref in left])
        while left and size < _PART_BYTES:
            key, job_id = left.popleft()
            try:
                payload = await self._take(sheet, key, results, partial(self._payload, sheet, key))
                if payload is None:
                    self.tell(NodeSkipped(run_id=command.run_id, key=key))
                else:
                    filled = FilledIn(payload=payload, digest=digest(payload)) if payload else None
                    going[job_id] = filled
                    size += len(payload)
            except EvaluationError as error:
                self._fail(command.run_id, key, _TEMPLATE_ERROR, str(error))
            await trio.lowlevel.checkpoint()
        return going

    def _results_for(self, tenant_id: str, sheet: RunSheet, keys: Iterable[str]) -> RunResults:
        return RunResults(self.sheets.store, tenant_id, sheet.sources(keys))

    async def _take(
        self,
        sheet: RunSheet,
        key: str,
        results: RunResults,
        evaluate: Callable[[Seen, Effort], T],
        places: int = 0,
        *,
        large: bool = False,
    ) -> T:
        """Evaluate a node in its turn, on what it looks at. Raises ``EvaluationError``."""
        seen, tenant_id = await results.of(sheet.sources([key])), results.tenant_id
        evaluated = partial(evaluate, seen)
        if large:
            return await self._turns.take_long(tenant_id, evaluated, places)
        size = seen.size + sheet.bytes_read(key, signed=self.sign is not None)
        return await self._turns.take(tenant_id, evaluated, bytes_read=size, places=places)

    def _payload(self, sheet: RunSheet, key: str, seen: Seen, effort: Effort) -> bytes | None:
        """The payload of a node that goes on, empty where it is not filled in; None: the node is
        skipped."""
        environment = sheet.environment(key, seen, self.sign)
        if not sheet.goes_on(key, environment, effort):
            return None
        return sheet.payload(key, environment, effort) if sheet.is_filled_in(key) else b""

    async def _begin(
        self, command: OpenNodes, nodes: Sequence[OpenNode], later: LaterError | None
    ) -> LaterError | None:
        """What open nodes stand for; behind the first sub-run that has to wait none is started.
        Returns why it waits."""
        inside = [node for node in nodes if node.kind not in _WAITS_OUTSIDE]
        if not inside:
            return later
        run_id = command.run_id
        sheet = await self.sheets.of(command.tenant_id, run_id)
        results = self._results_for(command.tenant_id, sheet, [node.key for node in inside])
        for node in inside:
            try:
                begun = partial(self._begun, sheet, node)
                news = await self._take(sheet, node.key, results, begun)
                if isinstance(news, tuple):
                    find = later is not None
                    await self.start_sub_run(sheet.record, node, *news, find=find)
                else:
                    self.tell(news)
            except EvaluationError as error:
                self._fail(run_id, node.key, _TEMPLATE_ERROR, str(error))
            except LaterError as error:
                later = error
            await trio.lowlevel.checkpoint()
        return later

    def _begun(
        self, sheet: RunSheet, node: OpenNode, seen: Seen, effort: Effort
    ) -> NodeDecided | ExpandNode | tuple[SubRunSpec, bytes]:
        """What an open node comes to: what is told of it, or the sub-run that it stands for."""
        run_id, key = sheet.record.run_id, node.key
        environment = sheet.environment(key, seen, self.sign)
        if node.kind is NodeKind.MAP:
            count = len(sheet.places_of(key, environment, effort))
            return ExpandNode(run_id=run_id, key=key, count=count)
        if node.kind is not NodeKind.POLICY:
            return sheet.sub_run(key, environment, effort)
        lets, require = sheet.requires(key, environment, effort)
        if lets:
            return NodeDecided(run_id=run_id, key=key, state=State.COMPLETED)
        return NodeDecided(
            run_id=run_id,
            key=key,
            state=State.FAILED,
            error=_POLICY_DENIED,
            message=f"${{{require}}} does not hold",
        )

    def _fail(self, run_id: str, key: str, error: str, message: str) -> None:
        self.tell(
            NodeDecided(run_id=run_id, key=key, state=State.FAILED, error=error, message=message)
        )


def _given_jobs(command: GrowRun, sheet: RunSheet) -> Sequence[NewJob]:
    """The jobs of a growth that a door gave."""
    return _jobs_of(command, sheet, decode_nodes(command.body))


def _jobs_of(command: GrowRun, sheet: RunSheet, jobs: Sequence[NodeJob]) -> Sequence[NewJob]:
    by_key = {each.node.key: each for each in jobs}
    return jobs_of_growth(sheet.record, command.nodes, by_key, command.edges, sheet.is_map)


def _carrying(command: RunCommand, going: Mapping[str, FilledIn | None]) -> Build:
    filled_in = {job_id: filled for job_id, filled in going.items() if filled is not None}
    return lambda ask_id: CarryOut(
        ask_id=ask_id, tenant_id=command.tenant_id, command=command, filled_in=filled_in
    )
