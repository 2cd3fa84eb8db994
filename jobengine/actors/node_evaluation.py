"""What a planner's commands need to be evaluated before the shard can carry them out: conditions,
templates, policies, lists.

I1  What is evaluated is told to the planner before the shard is asked for the rest, so nothing that
    was skipped or failed is asked for again when the answer is lost.
I2  A node is opened before what it stands for is looked for, so who reads the run sees it open.

Not here: how values come about (``domain/run_sheet``), sub-runs (``sub_runs``).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec
import trio

from jobengine.actors.run_sheets import RunSheets
from jobengine.domain.canonical import digest
from jobengine.domain.errors import ErrorCode, Refusal
from jobengine.domain.job import State
from jobengine.domain.node import NodeKind
from jobengine.domain.records import NewJob
from jobengine.domain.run_nodes import NodeJob, decode_nodes
from jobengine.domain.run_plan import jobs_of_growth
from jobengine.domain.run_sheet import Environment, EvaluationError, RunSheet, SignCallback
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
_TEMPLATE_ERROR: Final = "template_error"
_POLICY_DENIED: Final = "policy_denied"
_WAITS_OUTSIDE: Final = frozenset({NodeKind.APPROVAL, NodeKind.CALLBACK})

Build = Callable[[int], CarryOut]


@attrs.define(eq=False)
class NodeEvaluation:
    """``tell`` tells the planner, ``carry_out`` asks the shard and answers for the command;
    ``start_sub_run`` starts, or finds, the run of an open node and tells of its end."""

    sheets: RunSheets
    sign: SignCallback | None
    tell: Callable[[PlannerMessage], None]
    carry_out: Callable[[RunCommand, Build], Awaitable[PlannerMessage]]
    start_sub_run: Callable[[RunSheet, OpenNode, Environment], Awaitable[None]]

    async def release(self, command: ReleaseJobs) -> PlannerMessage:
        """Release what goes on, filled in."""
        filled, stopped = await self._evaluate(command, command.evaluated)
        job_ids = [job_id for job_id in command.job_ids if job_id not in stopped]
        if not job_ids and not command.begins:
            return Performed(stamp=command.stamp)
        left = msgspec.structs.replace(command, job_ids=job_ids)
        return await self.carry_out(left, _carrying(left, filled))

    async def open(self, command: OpenNodes) -> PlannerMessage:
        """Open what goes on, then do what each node stands for."""
        refs = [NodeRef(node.key, node.job_id) for node in command.nodes if node.evaluated]
        filled, stopped = await self._evaluate(command, refs)
        nodes = [node for node in command.nodes if node.job_id not in stopped]
        left = msgspec.structs.replace(command, nodes=nodes)
        done = await self.carry_out(left, _carrying(left, filled))
        if isinstance(done, Performed):
            inside = [node for node in nodes if node.kind not in _WAITS_OUTSIDE]
            await self._begin(command, inside)
        return done

    async def grow(self, command: GrowRun) -> Sequence[NewJob] | Refusal:
        """The jobs of a growth."""
        sheet = await self.sheets.of(command.tenant_id, command.run_id)
        results: Mapping[str, Any] = {}
        if command.opened is not None:
            wanted = sheet.sources([command.opened.key])
            results = await self.sheets.results(command.tenant_id, wanted)
        try:
            if max(len(command.nodes), len(sheet.nodes)) > _LARGE:
                return await trio.to_thread.run_sync(self._jobs, command, sheet, results)
            return self._jobs(command, sheet, results)
        except EvaluationError as error:
            assert command.opened is not None, "the jobs of a growth are given by a door"
            self._fail(command.run_id, command.opened.key, _TEMPLATE_ERROR, str(error))
            return Refusal(ErrorCode.TEMPLATE_INVALID, str(error))

    def _jobs(
        self, command: GrowRun, sheet: RunSheet, results: Mapping[str, Any]
    ) -> Sequence[NewJob]:
        jobs: Sequence[NodeJob]
        if command.opened is None:
            jobs = decode_nodes(command.body)
        else:
            key = command.opened.key
            environment = sheet.environment(key, results, self.sign)
            jobs = sheet.instances(key, [new.node for new in command.nodes], environment)
        by_key = {each.node.key: each for each in jobs}
        return jobs_of_growth(sheet.record, command.nodes, by_key, command.edges, sheet.is_map)

    async def _evaluate(
        self, command: ReleaseJobs | OpenNodes, refs: Sequence[NodeRef]
    ) -> tuple[dict[str, FilledIn], set[str]]:
        """The payloads that were filled in, and the jobs that do not go on, of which is told."""
        filled, stopped = dict[str, FilledIn](), set[str]()
        if not refs:
            return filled, stopped
        sheet = await self.sheets.of(command.tenant_id, command.run_id)
        wanted = sheet.sources(ref.key for ref in refs)
        results = await self.sheets.results(command.tenant_id, wanted)
        for key, job_id in refs:
            try:
                environment = sheet.environment(key, results, self.sign)
                if not sheet.goes_on(key, environment):
                    stopped.add(job_id)
                    self.tell(NodeSkipped(run_id=command.run_id, key=key))
                elif sheet.is_filled_in(key):
                    payload = sheet.payload(key, environment)
                    filled[job_id] = FilledIn(payload=payload, digest=digest(payload))
            except EvaluationError as error:
                stopped.add(job_id)
                self._fail(command.run_id, key, _TEMPLATE_ERROR, str(error))
            await trio.lowlevel.checkpoint()
        return filled, stopped

    async def _begin(self, command: OpenNodes, nodes: Sequence[OpenNode]) -> None:
        """What open nodes stand for."""
        if not nodes:
            return
        run_id = command.run_id
        sheet = await self.sheets.of(command.tenant_id, run_id)
        wanted = sheet.sources(node.key for node in nodes)
        results = await self.sheets.results(command.tenant_id, wanted)
        for node in nodes:
            try:
                environment = sheet.environment(node.key, results, self.sign)
                if node.kind is NodeKind.POLICY:
                    self._judge(run_id, sheet, node.key, environment)
                elif node.kind is NodeKind.MAP:
                    count = len(sheet.places_of(node.key, environment))
                    self.tell(ExpandNode(run_id=run_id, key=node.key, count=count))
                else:
                    await self.start_sub_run(sheet, node, environment)
            except EvaluationError as error:
                self._fail(run_id, node.key, _TEMPLATE_ERROR, str(error))
            await trio.lowlevel.checkpoint()

    def _judge(self, run_id: str, sheet: RunSheet, key: str, environment: Environment) -> None:
        lets, require = sheet.requires(key, environment)
        if lets:
            self.tell(NodeDecided(run_id=run_id, key=key, state=State.COMPLETED))
        else:
            self._fail(run_id, key, _POLICY_DENIED, f"${{{require}}} does not hold")

    def _fail(self, run_id: str, key: str, error: str, message: str) -> None:
        self.tell(
            NodeDecided(run_id=run_id, key=key, state=State.FAILED, error=error, message=message)
        )


def _carrying(command: RunCommand, filled: Mapping[str, FilledIn]) -> Build:
    return lambda ask_id: CarryOut(
        ask_id=ask_id, tenant_id=command.tenant_id, command=command, filled_in=filled
    )
