"""Planted bugs about runs."""

from typing import Final

from tests.sim.mutants.mutant import Mutant
from tests.sim.mutants.mutation import Mutation

__all__ = ["RUNS"]

RUNS: Final = (
    Mutant(
        name="growth_without_its_edges",
        bug="a run that grows forgets the new dependencies of its earlier nodes",
        scenario="runs",
        seeds=60,
        mutation=Mutation(
            module="jobengine.core.dag_planner.requests",
            function="extension",
            old="edges=message.edges,",
            new="edges=(),",
        ),
    ),
    Mutant(
        name="sub_run_is_never_failed",
        bug="a node completes although the run that it stands for has failed",
        scenario="runs",
        seeds=20,
        mutation=Mutation(
            module="jobengine.messages.run_facts",
            function="sub_run_ended",
            old="state=state,",
            new="state=RunState.COMPLETED,",
        ),
    ),
    Mutant(
        name="rerun_keeps_what_follows",
        bug="a rerun keeps what is behind the nodes that run again",
        scenario="runs",
        seeds=40,
        mutation=Mutation(
            module="jobengine.core.dag_planner.requests",
            function="_behind",
            old="if not marks[child]:",
            new="if False:",
        ),
    ),
)
