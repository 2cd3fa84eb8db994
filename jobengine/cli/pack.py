"""`jobengine pack`: units of work, registered in versions, and their runs.

Not here: what is done to any run, approvals among it (`run`).
"""

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.output import Form, print_fields, print_json, print_table, printable
from jobengine.cli.run_printing import took

if TYPE_CHECKING:
    from jobengine.wire.packs import PackRunView, PackView

__all__ = ["pack"]

_REGISTER_HELP: Final = """Register the pack in FILE (- is stdin) as its next version, and show it.

\b
{"packId": "release", "steps": [
  {"key": "build", "kind": "run", "jobType": "image.build"},
  {"key": "ok", "kind": "gate.approval", "message": "Ship ${results.build.tag}?"},
  {"key": "ship", "kind": "run", "jobType": "image.ship"}]}
"""
_STATES: Final = ("pending", "running", "completed", "failed", "cancelled")
_limited = click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="How many."
)


@click.group()
def pack() -> None:
    """Packs: steps that run as one, in versions that never change."""


@pack.command(help=_REGISTER_HELP)
@click.argument("file", metavar="FILE")
@engine_options
def register(engine: Engine, output: Form, file: str) -> None:
    from jobengine.cli.run_documents import checked, read_document
    from jobengine.wire.packs import PackRequest

    request = checked(file, read_document(file), PackRequest)
    with engine.client() as client:
        _print_pack(client.register_pack(request), output)


@pack.command("list")
@click.option("--pack", "pack_id", help="Versions of this pack only.")
@_limited
@engine_options
def list_packs(engine: Engine, output: Form, pack_id: str | None, limit: int) -> None:
    """List packs by id and version."""
    from jobengine.cli.paging import every

    with engine.client() as client:
        found = list(islice(every(partial(client.packs_page, pack_id=pack_id)), limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("PACK", "VERSION", "STATE", "CREATED", "BY", "DIGEST"),
        [
            (one.pack_id, one.version, one.state, one.created_at, one.created_by, one.digest)
            for one in found
        ],
    )


@pack.command()
@click.argument("pack_id", metavar="PACK")
@click.argument("version", metavar="[VERSION]", type=click.IntRange(1), required=False)
@engine_options
def show(engine: Engine, output: Form, pack_id: str, version: int | None) -> None:
    """Show VERSION of a pack, its newest when none is named; or the pack of a digest."""
    with engine.client() as client:
        _print_pack(client.pack(pack_id, version), output)


def _switch(name: str, what: str) -> None:
    @pack.command(name, help=what)
    @click.argument("pack_id", metavar="PACK")
    @click.argument("version", metavar="VERSION", type=click.IntRange(1))
    @audited
    @engine_options
    def switch(
        engine: Engine, output: Form, pack_id: str, version: int, reason: str, ticket: str
    ) -> None:
        with engine.client() as client:
            turn = getattr(client, f"{name}_pack")
            _print_pack(turn(pack_id, version, reason=reason, ticket=ticket), output)


_switch("disable", "Let no new run use VERSION of a pack; runs that are under way go on.")
_switch("enable", "Let new runs use VERSION of a pack again.")


@pack.command()
@click.argument("pack_id", metavar="PACK")
@click.option("--project", "project_id", required=True, help="The project that the run is of.")
@click.option("--version", type=click.IntRange(1), help="That version of it; the newest.")
@click.option("--digest", help="Only if the version has this digest.")
@click.option(
    "--input",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="One input; VALUE is JSON where it can be, else text. May be repeated.",
)
@click.option("--inputs", "inputs_file", metavar="FILE", help="All inputs, a JSON object.")
@click.option("--run-token", help="The same token again answers the same run; made when absent.")
@click.option("--fail-fast", is_flag=True, help="The first step that fails cancels the rest.")
@click.option("--watch", is_flag=True, help="Show it until it has ended, as `run watch` does.")
@engine_options
def run(
    engine: Engine,
    output: Form,
    pack_id: str,
    project_id: str,
    version: int | None,
    digest: str | None,
    pairs: tuple[str, ...],
    inputs_file: str | None,
    run_token: str | None,
    fail_fast: bool,
    watch: bool,
) -> int:
    """Begin a run of PACK, which may be named by its digest, and show it."""
    import uuid

    from jobengine.cli.run_documents import checked, inputs_of
    from jobengine.cli.run_watch import watch_run
    from jobengine.wire.packs import PackRunRequest

    by_digest = pack_id.startswith("sha256:")
    document = {
        "packId": None if by_digest else pack_id,
        "version": version,
        "digest": pack_id if by_digest else digest,
        "projectId": project_id,
        "inputs": inputs_of(pairs, inputs_file),
        "runToken": run_token or str(uuid.uuid4()),
        "failFast": fail_fast or None,
    }
    given = {name: value for name, value in document.items() if value is not None}
    request = checked(f"run of {pack_id}", given, PackRunRequest)
    with engine.client() as client:
        begun = client.create_pack_run(request)
        if watch:
            return watch_run(client, begun.run_id, output)
    _print_run(begun, output)
    return 0


@pack.command()
@click.option("--pack", "pack_id", help="Of this pack only.")
@click.option("--state", multiple=True, type=click.Choice(_STATES), help="May be repeated.")
@click.option("--project", help="Of this project only.")
@_limited
@engine_options
def runs(engine: Engine, output: Form, limit: int, **filters: Any) -> None:
    """List runs of packs, newest first."""
    from jobengine.cli.paging import every

    with engine.client() as client:
        found = list(islice(every(partial(client.pack_runs_page, **filters)), limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("RUN", "TOKEN", "PACK", "PROJECT", "STATE", "NODES", "CREATED", "TOOK"),
        [
            (
                one.run_id,
                one.run_token,
                f"{one.pack_id} {one.version}",
                one.project_id,
                one.state,
                one.nodes,
                one.created_at,
                took(one.duration_ms),
            )
            for one in found
        ],
    )


@pack.command()
@click.argument("run_id", metavar="RUN")
@engine_options
def logs(engine: Engine, output: Form, run_id: str) -> None:
    """Print the log lines of all jobs of a run, in the order they were stored."""
    from jobengine.cli.paging import every

    with engine.client() as client:
        lines = every(partial(client.pack_run_logs_page, run_id, page_size=500))
        if output == "json":
            print_json(list(lines))
            return
        for line in lines:
            print(printable(f"{line.at} {line.key}#{line.attempt} {line.level} {line.text}"))


@pack.command()
@click.argument("run_id", metavar="RUN")
@engine_options
def artifacts(engine: Engine, output: Form, run_id: str) -> None:
    """List the artifacts of all jobs of a run, by key, attempt and name."""
    from jobengine.cli.paging import every

    with engine.client() as client:
        found = list(every(partial(client.pack_run_artifacts_page, run_id, page_size=500)))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("KEY", "ATTEMPT", "NAME", "BYTES", "TYPE", "WHERE"),
        [
            (one.key, one.attempt, one.name, one.size_bytes, one.mime, one.uri or one.digest)
            for one in found
        ],
    )


@pack.command()
@click.argument("run_id", metavar="RUN")
@audited
@engine_options
def cancel(engine: Engine, output: Form, run_id: str, reason: str, ticket: str) -> None:
    """Give a run up: what has not ended is cancelled."""
    with engine.client() as client:
        _print_run(client.cancel_pack_run(run_id, reason=reason, ticket=ticket), output)


def _print_pack(found: "PackView", output: Form) -> None:
    import msgspec

    from jobengine.domain.run import RunDefinition

    if output == "json":
        print_json(found)
        return
    print_fields(
        [
            ("pack", found.pack_id),
            ("version", found.version),
            ("state", found.state),
            ("description", found.description or None),
            ("fail fast", "yes" if found.fail_fast else None),
            ("inputs", bytes(found.inputs).decode()),
            ("digest", found.digest),
            ("plan hash", found.plan_hash),
            ("created", f"{found.created_at} by {found.created_by}"),
            ("disabled", found.disabled_at),
        ]
    )
    print()
    plan = msgspec.json.decode(found.plan, type=RunDefinition)
    print_table(
        ("KEY", "KIND", "AFTER", "WHEN"),
        [
            (node.key, node.kind.value, ", ".join(node.depends_on) or None, node.when)
            for node in plan.jobs
        ],
    )


def _print_run(found: "PackRunView", output: Form) -> None:
    if output == "json":
        print_json(found)
        return
    print_fields(
        [
            ("run", found.run_id),
            ("token", found.run_token),
            ("pack", f"{found.pack_id} {found.version}"),
            ("digest", found.digest),
            ("plan hash", found.plan_hash),
            ("project", found.project_id),
            ("state", found.state),
            ("nodes", found.nodes),
            ("inputs", bytes(found.inputs).decode()),
            ("created", f"{found.created_at} by {found.created_by}"),
            ("started", found.started_at),
            ("finished", found.finished_at),
            ("took", took(found.duration_ms)),
            ("cancel asked", found.cancel_requested_at),
        ]
    )
