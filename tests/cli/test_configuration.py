"""Where settings come from, and what is said of those that are wrong."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from jobengine.cli.configuration import Configuration, configure, endpoint_of, settings_known
from jobengine.cli.setting import ConfigurationError
from jobengine.settings import Settings

SHARDS_AND_LOG = "shards = 4\nlog_level = 'debug'\nheartbeat_s = 5\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "engine.toml"
    path.write_text(SHARDS_AND_LOG)
    return path


def _origins(configuration: Configuration) -> dict[str, tuple[Any, str]]:
    return {value.setting.name: (value.value, value.origin) for value in configuration.values}


def test_a_flag_goes_before_the_environment_before_the_file_before_the_default(file: Path) -> None:
    environ = {"JOBENGINE_SHARDS": "8", "JOBENGINE_HTTP": "127.0.0.1:1"}
    found = configure({"http": ("--http", "[::1]:0")}, environ=environ, file=file)
    origins = _origins(found)
    assert origins["http"] == ("[::1]:0", "--http")
    assert origins["shards"] == (8, "JOBENGINE_SHARDS")
    assert origins["heartbeat_s"] == (5.0, str(file))
    assert origins["crashes_max"] == (Settings().crashes_max, "default")
    assert found.settings.shards == 8
    assert found.options.log_level == "debug"


def test_every_setting_can_be_set_in_the_environment_and_in_the_file(tmp_path: Path) -> None:
    for setting in settings_known().values():
        value = _another(setting.name, setting.default)
        by_environ = configure(environ={setting.variable: str(value)})
        assert str(_origins(by_environ)[setting.name][0]) == str(value)
        file = tmp_path / "one.toml"
        quoted = value if isinstance(value, int | float) else f'"{value}"'
        file.write_text(f"{setting.name} = {quoted}\n")
        by_file = configure(environ={"JOBENGINE_CONFIG": str(file)})
        assert _origins(by_file)[setting.name][1] == str(file)
        assert str(_origins(by_file)[setting.name][0]) == str(value)


def _another(name: str, default: Any) -> Any:
    """A value within bounds that is not the default."""
    if isinstance(default, int | float):
        return type(default)(default * 1.125)
    others = {
        "bus_events": "off",
        "bus_jobs": "on",
        "bus_prefix": "other",
        "bus_tenants": "acme",
        "bus_url": "nats://127.0.0.1:4222",
        "cors_origins": "https://console.example.com",
        "embedded_tcp_port": 5433,
        "http": "127.0.0.1:80",
        "log_level": "error",
        "public_url": "https://jobs.example.com",
        "redact_payloads": "on",
        "webhook_allow": "*.corp.example, 10.1.0.0/16",
        "worker": "127.0.0.1:81",
    }
    return others.get(name, f"/somewhere/{name}")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"JOBENGINE_SHARDS": "many"}, "JOBENGINE_SHARDS: not a whole number"),
        ({"JOBENGINE_SHARDS": "0"}, "JOBENGINE_SHARDS: shards must be >= 1: 0"),
        ({"JOBENGINE_HEARTBEAT_S": "nan"}, "JOBENGINE_HEARTBEAT_S: not a number"),
        ({"JOBENGINE_HTTP": "7070"}, "JOBENGINE_HTTP: http must be HOST:PORT"),
        ({"JOBENGINE_LOG_LEVEL": "loud"}, "JOBENGINE_LOG_LEVEL: log_level must be in"),
        ({"JOBENGINE_CORS_ORIGINS": "*"}, "JOBENGINE_CORS_ORIGINS: cors_origins: \\* is no origin"),
        (
            {"JOBENGINE_REDACT_PATTERN": "("},
            "JOBENGINE_REDACT_PATTERN: redact_pattern is no regular",
        ),
        ({"JOBENGINE_DATA_DIR": ""}, "JOBENGINE_DATA_DIR: not a path"),
    ],
)
def test_a_wrong_value_is_refused_naming_where_it_was_set(
    environ: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{said}"):
        configure(environ=environ)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("shard = 4", "there is no setting 'shard'; did you mean 'shards'"),
        ("colour = 4", "there is no setting 'colour'; `jobengine config show` lists them"),
        ("shards = 4.5", "shards: not a whole number"),
        ("shards = true", "shards: not a whole number"),
        ("shards = [1]", "shards: not a whole number"),
        ("shards = ", "is not TOML"),
        ("data_dir = 3", "data_dir: not a path"),
    ],
)
def test_a_wrong_file_is_refused_naming_file_and_setting(
    content: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        configure(environ={}, file=file)
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: No such file"):
        configure(environ={}, file=tmp_path / "none.toml")


def test_a_foreign_name_in_the_environment_is_reported_and_no_error() -> None:
    environ = {"JOBENGINE_SHARD": "4", "JOBENGINE_PORT_7070_TCP_ADDR": "10.0.0.1"}
    found = configure(environ={**environ, "JOBENGINE_TOKEN": "x", "JOBENGINE_DEMO_X": "1"})
    assert found.unknown == {
        "JOBENGINE_SHARD": "JOBENGINE_SHARDS",
        "JOBENGINE_PORT_7070_TCP_ADDR": None,
    }


def test_a_secret_is_not_shown_and_not_part_of_an_error() -> None:
    secret = "postgresql://engine:hunter2@db/jobs"
    found = configure(environ={"JOBENGINE_DATABASE_URL": secret})
    assert found.options.database_url == secret
    shown = {value.setting.name: value.shown for value in found.values}
    assert shown["database_url"] == "(set, not shown)"
    assert "hunter2" not in "".join(shown.values())


def test_no_name_stands_for_two_settings() -> None:
    owners = [field.name for kind in (Settings, *_options()) for field in attrs.fields(kind)]
    assert len(owners) == len(set(owners)) == len(settings_known())


def _options() -> list[Any]:
    return list({setting.owner for setting in settings_known().values()} - {Settings})


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::]:7070", ("::", 7070)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_an_endpoint_is_a_host_and_a_port(text: str, endpoint: tuple[str, int]) -> None:
    assert endpoint_of(text) == endpoint


@pytest.mark.parametrize("text", ["7070", ":7070", "host:", "host:65536", "::1:7070", "host:-1"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        endpoint_of(text)
