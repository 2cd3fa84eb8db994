"""Generated files: writing them, and finding those that differ from their generator."""

from pathlib import Path

import pytest

from tools.generate import main

GENERATORS = {"docs/made.md": lambda: "one\n", "made.json": lambda: "{}\n"}


def test_every_file_is_written_and_then_passes_the_check(tmp_path: Path) -> None:
    assert main([], generators=GENERATORS, root=tmp_path) == 0
    assert (tmp_path / "docs/made.md").read_text() == "one\n"
    assert main(["--check"], generators=GENERATORS, root=tmp_path) == 0


def test_a_check_names_an_edited_and_an_absent_file_and_writes_neither(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([], generators=GENERATORS, root=tmp_path)
    (tmp_path / "docs/made.md").write_text("edited\n")
    (tmp_path / "made.json").unlink()
    assert main(["--check"], generators=GENERATORS, root=tmp_path) == 1
    message = capsys.readouterr().err
    assert "docs/made.md" in message
    assert "made.json" in message
    assert (tmp_path / "docs/made.md").read_text() == "edited\n"
    assert not (tmp_path / "made.json").exists()


def test_files_that_are_as_generated_are_not_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([], generators=GENERATORS, root=tmp_path)
    capsys.readouterr()
    main([], generators=GENERATORS, root=tmp_path)
    assert capsys.readouterr().out == ""


def test_an_empty_registry_passes(tmp_path: Path) -> None:
    assert main(["--check"], generators={}, root=tmp_path) == 0
