"""`jobengine source`: the upstreams that jobs talk to, and how fast they may."""

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from jobengine.cli.connection import Engine, audited, engine_options
from jobengine.cli.output import Form, print_fields, print_json, print_table
from jobengine.cli.rates import rate_options, rate_text, rate_wanted

if TYPE_CHECKING:
    from jobengine.wire.sources import SourceView

__all__ = ["source"]

_CLEARABLE: Final = {
    "auth-ref": "auth_ref",
    "capabilities": "capabilities",
    "connector": "connector_id",
    "lock-key": "lock_key",
    "max-active": "max_active",
    "rate": "rate_policy",
}
_revision = click.option("--revision", type=int, help="Only if it is still of this revision.")


def _described(command: Any) -> Any:
    for option in (
        click.option("--weight", type=int, help="Its share against other sources; 1."),
        click.option("--max-active", type=int, help="How many of its jobs run at once."),
        click.option("--lock-key", help="Jobs of sources with one key run one at a time."),
        click.option("--auth-ref", help="The name of its secret, such as env:OSV_TOKEN."),
        click.option("--capability", "capabilities", multiple=True, help="May be repeated."),
        click.option("--connector", "connector_id", help="What talks to it."),
        rate_options,
    ):
        command = option(command)
    return command


@click.group()
def source() -> None:
    """Look at sources, register and change them, pause and slow them."""


@source.command("list")
@click.option("--limit", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@engine_options
def list_sources(engine: Engine, output: Form, limit: int) -> None:
    """List the sources, by id."""
    from jobengine.cli.paging import every

    with engine.client() as client:
        found = list(islice(every(client.sources_page), limit))
    if output == "json":
        print_json(found)
        return
    print_table(
        ("SOURCE", "TYPE", "HOST", "RATE", "THROTTLE", "BREAKER", "STATE", "RUNNING", "REVISION"),
        [
            (
                one.source_id,
                one.source_type,
                one.host,
                rate_text(one.rate_policy) or "none: denied",
                rate_text(one.throttle),
                one.breaker,
                "paused" if one.paused else "active",
                one.running,
                one.revision,
            )
            for one in found
        ],
    )


@source.command()
@click.argument("source_id", metavar="SOURCE")
@engine_options
def show(engine: Engine, output: Form, source_id: str) -> None:
    """Show one source."""
    with engine.client() as client:
        _print_source(client.source(source_id), output)


@source.command()
@click.argument("source_id", metavar="SOURCE")
@click.option("--type", "source_type", required=True, help="What kind of source it is.")
@click.option("--host", required=True, help="Its host name, with a port if need be.")
@_described
@audited
@engine_options
def create(
    engine: Engine, output: Form, source_id: str, reason: str, ticket: str, **given: Any
) -> None:
    """Register SOURCE. Without --rpm or --per-second its jobs do not start."""
    with engine.client() as client:
        made = client.create_source(source_id, reason=reason, ticket=ticket, **_fields(given))
    _print_source(made, output)


@source.command("set")
@click.argument("source_id", metavar="SOURCE")
@click.option("--type", "source_type", help="What kind of source it is.")
@click.option("--host", help="Its host name, with a port if need be.")
@_described
@click.option(
    "--clear", multiple=True, type=click.Choice(sorted(_CLEARABLE)), help="May be repeated."
)
@_revision
@audited
@engine_options
def change(
    engine: Engine,
    output: Form,
    source_id: str,
    clear: tuple[str, ...],
    revision: int | None,
    reason: str,
    ticket: str,
    **given: Any,
) -> None:
    """Change what is named of SOURCE, and leave the rest."""
    fields = {**_fields(given), **{_CLEARABLE[name]: None for name in clear}}
    if not fields:
        raise click.UsageError("name what to change, or --clear it")
    with engine.client() as client:
        changed = client.update_source(
            source_id, reason=reason, ticket=ticket, revision=revision, **fields
        )
    _print_source(changed, output)


@source.command()
@click.argument("source_id", metavar="SOURCE")
@click.option("--force", is_flag=True, help="Also when jobs wait or run for it.")
@_revision
@audited
@engine_options
def delete(
    engine: Engine,
    output: Form,
    source_id: str,
    force: bool,
    revision: int | None,
    reason: str,
    ticket: str,
) -> None:
    """Take SOURCE away."""
    with engine.client() as client:
        gone = client.delete_source(
            source_id, reason=reason, ticket=ticket, revision=revision, force=force
        )
    if output == "json":
        print_json(gone)
    else:
        print_fields([("source", gone.name), ("removed", gone.removed_at)])


def _switch(name: str, what: str) -> None:
    @source.command(name, help=what)
    @click.argument("source_id", metavar="SOURCE")
    @audited
    @engine_options
    def switch(engine: Engine, output: Form, source_id: str, reason: str, ticket: str) -> None:
        with engine.client() as client:
            done = getattr(client, f"{name}_source")(source_id, reason=reason, ticket=ticket)
        if output == "json":
            print_json(done)
        else:
            print_fields([("source", done.key), ("paused", "yes" if done.paused else "no")])


_switch("pause", "Let no job of SOURCE start.")
_switch("resume", "Let jobs of SOURCE start again.")


@source.command()
@click.argument("source_id", metavar="SOURCE")
@rate_options
@click.option("--lift", is_flag=True, help="Take the rate away again.")
@audited
@engine_options
def throttle(
    engine: Engine,
    output: Form,
    source_id: str,
    lift: bool,
    reason: str,
    ticket: str,
    **given: Any,
) -> None:
    """Set a rate beside that of SOURCE itself, or lift it."""
    rate = rate_wanted(**given)
    if lift == (rate is not None):
        raise click.UsageError("give --rpm or --per-second, or --lift")
    with engine.client() as client:
        done = client.throttle_source(source_id, rate, reason=reason, ticket=ticket)
    if output == "json":
        print_json(done)
    else:
        print_fields([("source", done.key), ("throttle", rate_text(done.rate) or "none")])


@source.command()
@click.argument("source_id", metavar="SOURCE")
@click.option("--learned", type=float, help="Go on from this rate, in starts a minute.")
@click.option("--pin", is_flag=True, help="Push-backs do not change --learned.")
@click.option("--forget", is_flag=True, help="Forget what push-backs have taught.")
@click.option("--reason", help="Why; needed to change it.")
@click.option("--ticket", help="Where it was decided; needed to change it.")
@engine_options
def bucket(
    engine: Engine,
    output: Form,
    source_id: str,
    learned: float | None,
    pin: bool,
    forget: bool,
    reason: str | None,
    ticket: str | None,
) -> None:
    """Show the tokens of SOURCE and the rate its push-backs have taught, or set that."""
    if forget and (pin or learned is not None):
        raise click.UsageError("give --learned, with or without --pin, or --forget")
    if pin and learned is None:
        raise click.UsageError("--pin goes with --learned")
    with engine.client() as client:
        if forget or learned is not None:
            if not reason or not ticket:
                raise click.UsageError("changing a bucket is audited: give --reason and --ticket")
            done = client.set_source_bucket(
                source_id, learned, reason=reason, ticket=ticket, pinned=pin
            )
            if output == "json":
                print_json(done)
            else:
                rate = done.learned_per_minute
                print_fields(
                    [
                        ("bucket", done.key),
                        ("learned", "forgotten" if rate is None else f"{rate:g} a minute"),
                        ("pinned", "yes" if done.pinned else None),
                    ]
                )
            return
        _print_bucket(client.source_bucket(source_id), output)


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    """What was named, under the SDK's names."""
    rate = rate_wanted(*(given.pop(name) for name in ("rpm", "per_second", "burst", "cooldown")))
    fields = {name: value for name, value in given.items() if value not in (None, ())}
    if "capabilities" in fields:
        fields["capabilities"] = list(fields["capabilities"])
    return fields if rate is None else {**fields, "rate_policy": rate}


def _print_source(found: "SourceView", output: Form) -> None:
    if output == "json":
        print_json(found)
        return
    paused = None if found.paused is None else "paused" if found.paused else "active"
    print_fields(
        [
            ("source", found.source_id),
            ("type", found.source_type),
            ("host", found.host),
            ("rate", rate_text(found.rate_policy) or "none: its jobs do not start"),
            ("throttle", rate_text(found.throttle)),
            ("connector", found.connector_id),
            ("capabilities", " ".join(found.capabilities) or None),
            ("auth ref", found.auth_ref),
            ("lock key", found.lock_key),
            ("at once", found.max_active),
            ("weight", found.weight),
            ("state", paused),
            ("breaker", found.breaker),
            ("running", found.running),
            ("lowered to", found.running_max),
            ("revision", found.revision),
            ("changed", found.changed_at),
        ]
    )


def _print_bucket(found: Any, output: Form) -> None:
    if output == "json":
        print_json(found)
        return
    learned = None if found.learned_rpm is None else f"{found.learned_rpm:g} a minute"
    budget = found.retry_budget
    print_fields(
        [
            ("bucket", found.key),
            ("configured", rate_text(found.configured) or "none: nothing starts"),
            ("learned", f"{learned} (pinned)" if learned and found.pinned else learned),
            ("throttle", rate_text(found.throttle)),
            ("in force", f"{found.rpm:g} a minute"),
            ("tokens", f"{found.tokens:g}"),
            ("opens", found.open_at),
            ("retry budget", f"{budget.tokens:g} of {budget.burst}"),
        ]
    )
