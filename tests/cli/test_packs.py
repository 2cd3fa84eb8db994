"""The commands for packs, against a real engine."""

import json
from pathlib import Path
from typing import Any

from jobengine.cli.failure import ExitCode
from tests.cli.conftest import Done, Run

SIGNED = ("--reason", "a test", "--ticket", "T-1")
PACK = {
    "packId": "release",
    "inputs": {"type": "object", "required": ["ship"]},
    "steps": [
        {"key": "ok", "kind": "gate.approval", "message": "Ship it?"},
        {
            "key": "out",
            "kind": "conditional",
            "when": "inputs.ship",
            "then": [{"key": "ship", "kind": "run", "jobType": "ship"}],
        },
    ],
}


def _document(done: Done) -> Any:
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def _json(cli: Run, *arguments: str) -> Any:
    return _document(cli("pack", *arguments, "--output", "json"))


def test_a_pack_is_registered_shown_run_and_given_up(cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "pack.json"
    file.write_text(json.dumps(PACK))
    made = _json(cli, "register", str(file))
    assert (made["packId"], made["version"], made["state"]) == ("release", 1, "enabled")
    assert _json(cli, "show", "release") == made
    assert _json(cli, "show", made["digest"]) == made
    assert [each["digest"] for each in _json(cli, "list", "--pack", "release")] == [made["digest"]]
    table = cli("pack", "show", "release", "1").stdout
    assert made["planHash"] in table
    assert "out.then.ship" in table

    named = ["--project", "apollo", "--run-token", "once"]
    begun = _json(cli, "run", "release", "--input", "ship=true", *named)
    assert (begun["packId"], begun["inputs"], begun["projectId"]) == (
        "release",
        {"ship": True},
        "apollo",
    )
    by_digest = _json(cli, "run", made["digest"], "--input", "ship=true", *named)
    assert by_digest["runId"] == begun["runId"]
    assert [each["runId"] for each in _json(cli, "runs", "--pack", "release")] == [begun["runId"]]
    assert _json(cli, "logs", begun["runId"]) == []
    assert _json(cli, "artifacts", begun["runId"]) == []
    given_up = _json(cli, "cancel", begun["runId"], *SIGNED)
    assert given_up["cancelRequestedAt"] is not None

    assert _json(cli, "disable", "release", "1", *SIGNED)["state"] == "disabled"
    refused = cli("pack", "run", "release", "--project", "apollo", "--input", "ship=true")
    assert refused.exit_code != 0
    assert "disabled" in refused.stderr
    assert _json(cli, "enable", "release", "1", *SIGNED)["state"] == "enabled"


def test_a_pack_that_cannot_be_is_refused_before_it_is_sent(cli: Run, tmp_path: Path) -> None:
    file = tmp_path / "pack.json"
    file.write_text(json.dumps({"packId": "p", "steps": [{"key": "a", "kind": "loop"}]}))
    refused = cli("pack", "register", str(file))
    assert refused.exit_code == ExitCode.USAGE
    assert "$.steps[0].kind" in refused.stderr
