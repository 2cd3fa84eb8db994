"""What the documents say of commands and settings is what there is."""

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import attrs
import click

from jobengine.cli.app import jobengine
from jobengine.cli.configuration import settings_known
from jobengine.cli.failure import ExitCode
from jobengine.cli.setting import Setting

DOCS = Path(__file__).parents[2] / "docs"


def test_operations_lists_every_setting_with_its_default_and_reason() -> None:
    section = (DOCS / "operations.md").read_text().partition("\n## Settings\n")[2]
    table = re.findall(r"^\| `\w+` \|.*$", section, re.MULTILINE)
    expected = settings_rows()
    assert table == expected, "\n".join(["it should hold:", *expected])


def test_cli_lists_every_command() -> None:
    text = (DOCS / "cli.md").read_text()
    for path in _paths(jobengine):
        assert f"`{' '.join(path)}`" in text, path


def test_operations_lists_every_exit_code() -> None:
    text = (DOCS / "operations.md").read_text()
    assert re.findall(r"^\| (\d+) \|", text, re.MULTILINE) == [str(int(code)) for code in ExitCode]


def test_links_between_the_documents_lead_somewhere() -> None:
    for page in (DOCS.parent / "README.md", DOCS / "cli.md", DOCS / "operations.md"):
        targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
        assert targets or page.name == "operations.md"
        for target in targets:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def settings_rows() -> list[str]:
    """The rows of the table, as Markdown."""
    texts: dict[str, str] = {}
    for owner in {setting.owner for setting in settings_known().values()}:
        texts |= _texts_of(owner)
    return [
        f"| `{setting.name}` | {_default(setting)} | {texts.get(setting.name, '')} |"
        for setting in settings_known().values()
    ]


def _default(setting: Setting) -> str:
    return "–" if setting.default is None else f"`{setting.default}`"


def _texts_of(owner: type[Any]) -> dict[str, str]:
    """The text below each field of an attrs class, on one line."""
    [kind] = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(kind, ast.ClassDef)
    names = {field.name for field in attrs.fields(owner)}
    texts = {}
    for before, after in zip(kind.body, kind.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr):
            assert isinstance(before.target, ast.Name)
            assert isinstance(after.value, ast.Constant)
            texts[before.target.id] = " ".join(str(after.value.value).split())
    assert texts.keys() <= names
    return texts


def _paths(group: click.Group, *above: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found.extend(_paths(command, *above, name))
        else:
            found.append((*above, name))
    return found
