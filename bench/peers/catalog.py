"""Which peers there are, what they are called in their package index, and how one asks whether a
job of theirs is still to be done.

``unfinished`` counts the jobs that are not acknowledged as done. It is asked when all handlers have
run, until it is zero: only then is a round over.
"""

from typing import Final, Literal

import attrs

__all__ = ["PEERS", "Peer"]


@attrs.frozen(kw_only=True)
class Peer:
    """``driver`` is a module of `bench.peers.drivers`, or a script there for Node.js."""

    name: str
    package: str
    runtime: Literal["python", "node"]
    driver: str
    unfinished: str
    keeps: str
    """What stays of a finished job."""


PEERS: Final = (
    Peer(
        name="graphile-worker",
        package="graphile-worker",
        runtime="node",
        driver="graphile_worker",
        unfinished="SELECT count(*) FROM graphile_worker._private_jobs",
        keeps="nothing",
    ),
    Peer(
        name="pg-boss",
        package="pg-boss",
        runtime="node",
        driver="pg_boss",
        unfinished="SELECT count(*) FROM pgboss.job WHERE name = 'noop' AND state < 'completed'",
        keeps="one row",
    ),
    Peer(
        name="awa",
        package="awa-pg",
        runtime="python",
        driver="awa",
        unfinished=(
            "SELECT count(*) FROM awa.jobs "
            "WHERE state IN ('scheduled', 'available', 'running', 'retryable')"
        ),
        keeps="one row, pruned later",
    ),
    Peer(
        name="pgqueuer",
        package="pgqueuer",
        runtime="python",
        driver="pgqueuer",
        unfinished="SELECT count(*) FROM pgqueuer",
        keeps="a log row a transition",
    ),
    Peer(
        name="oban",
        package="oban",
        runtime="python",
        driver="oban",
        unfinished=(
            "SELECT count(*) FROM oban_jobs "
            "WHERE state IN ('available', 'scheduled', 'executing', 'retryable')"
        ),
        keeps="one row",
    ),
    Peer(
        name="chancy",
        package="chancy",
        runtime="python",
        driver="chancy",
        unfinished="SELECT count(*) FROM chancy_jobs WHERE state <> 'succeeded'",
        keeps="one row, pruned after a day",
    ),
    Peer(
        name="procrastinate",
        package="procrastinate",
        runtime="python",
        driver="procrastinate",
        unfinished="SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
        keeps="a row and event rows",
    ),
)
