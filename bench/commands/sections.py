"""The list that ``--help`` prints: commands under headings, in the order of their definition."""

from collections.abc import Sequence
from typing import Any, Final

import attrs
import click

__all__ = ["Section", "SectionedGroup"]

_WIDTH_MAX: Final = 200


@attrs.frozen
class Section:
    """Commands that measure a like thing."""

    title: str
    commands: Sequence[click.Command]


class SectionedGroup(click.Group):
    """Every command belongs to a section, and has one line in it."""

    def __init__(self, *, sections: Sequence[Section], **given: Any) -> None:
        commands = [command for section in sections for command in section.commands]
        super().__init__(commands={str(each.name): each for each in commands}, **given)
        self.sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(len(name) for name in self.commands)
        for section in self.sections:
            with formatter.section(section.title):
                formatter.write_dl(
                    [
                        (str(each.name).ljust(widest), each.get_short_help_str(_WIDTH_MAX))
                        for each in section.commands
                    ]
                )
