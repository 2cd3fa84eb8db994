"""`jobengine governance`: how tenants share what may run at once. For the platform's operators."""

import json
from pathlib import Path
from typing import Any, Final

import attrs
import click

from jobengine.cli.asking import ask
from jobengine.cli.connection import Engine, engine_options
from jobengine.cli.failure import CommandFailedError, ExitCode
from jobengine.cli.output import Form, print_fields, print_json, print_table

__all__ = ["governance"]

_PATH: Final = "/governance"
_PLATFORM: Final = "_system"
_STRATEGIES: Final = ("unlimited", "proportional", "priority", "reserved", "max-limit")
_FIELDS: Final = ("weight", "priority", "reserved", "cap")


@click.group()
def governance() -> None:
    """Show and set how tenants share what may run at once."""


@governance.command()
@engine_options
def show(engine: Engine, output: Form) -> None:
    """Show the strategy, and what each tenant is given, runs and waits for."""
    _print(ask(_of_platform(engine), "GET", _PATH), output)


@governance.command("set")
@click.argument("strategy", type=click.Choice(_STRATEGIES))
@click.option(
    "--capacity",
    type=click.IntRange(1),
    help="How many jobs may run at once, all tenants together; as it is when left out.",
)
@click.option(
    "--share",
    "shares",
    multiple=True,
    metavar="TENANT:FIELD=N[,…]",
    help="What a tenant is given: weight, priority, reserved, cap. Others stay as they are.",
)
@click.option("--drop", multiple=True, metavar="TENANT", help="Back to the defaults for a tenant.")
@click.option("--reason", required=True, help="Why; kept in the audit.")
@click.option("--ticket", help="Where it was decided, such as OPS-17; for the audit.")
@engine_options
def set_(
    engine: Engine,
    output: Form,
    strategy: str,
    capacity: int | None,
    shares: tuple[str, ...],
    drop: tuple[str, ...],
    reason: str,
    ticket: str | None,
) -> None:
    """Set the strategy; what is left out stays as it is.

    Running jobs are never stopped: a tenant that has more than its share drains.
    """
    engine = _of_platform(engine)
    present = ask(engine, "GET", _PATH)
    listed = {
        one["tenantId"]: {name: one[name] for name in _FIELDS if one[name] is not None}
        for one in present["tenants"]
        if one["listed"]
    }
    for share in shares:
        tenant, given = _share(share)
        listed[tenant] = listed.get(tenant, {}) | given
    for tenant in drop:
        listed.pop(tenant, None)
    _set(
        engine,
        {
            "strategy": strategy,
            "capacity": present["capacity"] if capacity is None else capacity,
            "tenants": [{"tenantId": tenant, **given} for tenant, given in listed.items()],
        },
        output,
        reason,
        ticket,
    )


@governance.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--reason", required=True, help="Why; kept in the audit.")
@click.option("--ticket", help="Where it was decided, such as OPS-17; for the audit.")
@engine_options
def apply(engine: Engine, output: Form, file: Path, reason: str, ticket: str | None) -> None:
    """Set the whole policy from a JSON file: strategy, capacity, tenants."""
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandFailedError(
            f"{file} holds no JSON document: {error}", ExitCode.USAGE
        ) from None
    _set(_of_platform(engine), body, output, reason, ticket)


def _set(engine: Engine, body: Any, output: Form, reason: str, ticket: str | None) -> None:
    _print(ask(engine, "PUT", _PATH, body, reason=reason, ticket=ticket), output)


def _of_platform(engine: Engine) -> Engine:
    """Governance is no tenant's, so whatever --tenant says it is asked for the platform."""
    return attrs.evolve(engine, tenant=_PLATFORM)


def _share(text: str) -> tuple[str, dict[str, int]]:
    tenant, colon, fields = text.rpartition(":")
    given = {}
    for field in fields.split(","):
        name, equals, value = field.partition("=")
        digits = value.removeprefix("-")
        if not (tenant and colon and equals and name in _FIELDS and digits.isdecimal()):
            raise click.UsageError(
                f"--share {text!r}: write TENANT:FIELD=N, with FIELD one of {', '.join(_FIELDS)}"
            )
        given[name] = int(value)
    return tenant, given


def _print(found: Any, output: Form) -> None:
    if output == "json":
        print_json(found)
        return
    print_fields(
        [
            ("strategy", found["strategy"]),
            ("capacity", found["capacity"]),
            ("revision", found["revision"]),
            ("changed", found["changedAt"]),
        ]
    )
    if found["tenants"]:
        print()
        names = ("tenantId", *_FIELDS, "allotment", "running", "waiting")
        heads = (
            "TENANT",
            "WEIGHT",
            "PRIORITY",
            "RESERVED",
            "CAP",
            "ALLOTTED",
            "RUNNING",
            "WAITING",
        )
        print_table(heads, [[one[name] for name in names] for one in found["tenants"]])
