"""Every seed that has found something is run again, for ever."""

from pathlib import Path

import pytest

from jobengine.testing.sim.regression import Regression, read_regression
from jobengine.testing.sim.run import simulate
from jobengine.testing.sim.scenario import Scenario, ScenarioError

FILES = sorted((Path(__file__).parent / "regressions").glob("*.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_was_caught_once_stays_mended(file: Path) -> None:
    regression = read_regression(file)
    verdict = simulate(regression.seed, regression.scenario)
    assert verdict.violation is None, f"{regression.caught}\n{verdict.traceback or ''}"


def test_each_file_says_in_a_sentence_what_it_caught_and_in_which_code() -> None:
    for file in FILES:
        regression = read_regression(file)
        assert " " in regression.caught
        assert "+" in regression.code


def test_a_regression_is_read_as_it_was_written(tmp_path: Path) -> None:
    scenario = Scenario(
        name='a "quoted" one', jobs=3, operators=False, faults_s=12.5, sites=("link.cut",)
    )
    written = Regression(seed=7, caught="a \\ and a\nbreak", code="1+0", scenario=scenario)
    file = tmp_path / "one.toml"
    file.write_text(written.text())
    assert read_regression(file) == written


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("seed = ", "no TOML"),
        ('seed = 1\ncaught = "x"\n[scenario]\n', "code"),
        ('seed = 1\ncaught = "x"\ncode = "1+0"\n[scenario]\njbos = 3\n', "jbos"),
        ('seed = 1\ncaught = "x"\ncode = "1+0"\n[scenario]\nsites = ["disk"]\n', "disk"),
    ],
)
def test_a_bad_file_is_refused_by_what_is_wrong_with_it(
    tmp_path: Path, text: str, named: str
) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(ScenarioError, match=named):
        read_regression(file)
