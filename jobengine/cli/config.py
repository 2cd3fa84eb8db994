"""`jobengine config`: what a node would run with, and why."""

import sys
from pathlib import Path
from typing import Any

import click

from jobengine.cli.node_options import configured, node_options
from jobengine.cli.output import Form, output_option, print_json, print_table
from jobengine.cli.setting import Value

__all__ = ["config"]


@click.group()
def config() -> None:
    """Look at the configuration of a node."""


@config.command()
@node_options
@output_option
def show(config: Path | None, output: Form, **flags: Any) -> None:
    """Show every setting, its value, and where that comes from.

    A flag goes before the environment, that before the file of --config (or JOBENGINE_CONFIG), that
    before the default. Secrets are not shown.
    """
    configuration = configured(config, **flags)
    if output == "json":
        print_json(
            [
                {
                    "name": value.setting.name,
                    "environment": value.setting.variable,
                    "value": _plain(value),
                    "origin": value.origin,
                }
                for value in configuration.values
            ]
        )
    else:
        print_table(
            ("SETTING", "VALUE", "FROM"),
            [(value.setting.name, value.shown, value.origin) for value in configuration.values],
        )
    for name, meant in configuration.unknown.items():
        hint = f"; did you mean {meant}?" if meant else ""
        print(f"jobengine: {name} is set and no setting{hint}", file=sys.stderr)


def _plain(value: Value) -> Any:
    """For programs; a secret is not shown."""
    if value.setting.secret:
        return None if value.value is None else value.shown
    return str(value.value) if isinstance(value.value, Path) else value.value
