"""Where the value of a setting comes from: flag, environment, TOML file, default, in that order.

Every field of `Settings` and of `NodeOptions` can be set by all of them under one name: `shards` is
JOBENGINE_SHARDS in the environment and `shards = 16` in the file.

I1  A name in the file that is no setting is an error. A name in the environment is not: platforms
    put JOBENGINE_PORT and the like there by themselves. It is reported.

Not here: what one value may be (`setting`), the flags themselves (`node_options`).
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from jobengine.auth.vault import vault_path
from jobengine.cli.setting import PREFIX, ConfigurationError, Setting, Value, checked, settings_of
from jobengine.settings import Settings

__all__ = [
    "LOG_LEVELS",
    "Configuration",
    "NodeOptions",
    "configure",
    "endpoint_of",
    "settings_known",
]

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_NO_SETTINGS: Final = frozenset(
    {"CONFIG", "URL", "TOKEN", "TOKEN_FILE", "TENANT", "WORKER_URL", "CA_FILE"}
)
_OTHERS: Final = ("JOBENGINE_DEMO_",)
_ROOTS_DATA_DIR: Final = Path("/var/lib/jobengine")


def _is_endpoint(_: object, field: "attrs.Attribute[str]", value: str) -> None:
    try:
        endpoint_of(value)
    except ValueError:
        raise ValueError(f"{field.name} must be HOST:PORT, such as 127.0.0.1:7070") from None


def _are_origins(_: object, field: "attrs.Attribute[str | None]", value: str | None) -> None:
    from jobengine.http.security import origins_of

    try:
        origins_of(value or "")
    except ValueError as error:
        raise ValueError(f"{field.name}: {error}") from None


def _are_places(_: object, field: "attrs.Attribute[str | None]", value: str | None) -> None:
    from jobengine.http.outgoing import policy_of

    try:
        policy_of(value or "")
    except ValueError as error:
        raise ValueError(f"{field.name}: {error}") from None


def _is_public_url(_: object, field: "attrs.Attribute[str | None]", value: str | None) -> None:
    from jobengine.http.callbacks import public_url_of

    try:
        public_url_of(value or "http://localhost")
    except ValueError as error:
        raise ValueError(f"{field.name} {error}") from None


@attrs.frozen(kw_only=True)
class NodeOptions:
    """How a node is reached and what it runs on; the rest is in `Settings`."""

    http: str = attrs.field(default="127.0.0.1:7070", validator=_is_endpoint)
    """Where REST and event streams are served, HOST:PORT; port 0 takes a free one."""

    worker: str = attrs.field(default="127.0.0.1:7071", validator=_is_endpoint)
    """Where workers connect by WebSocket, HOST:PORT; port 0 takes a free one."""

    database_url: str | None = None
    """PostgreSQL to use, as a URL or libpq connection string; without one it is embedded."""

    tls_cert: Path | None = None
    """Certificate of both listeners, PEM, with those in between; then they speak TLS only."""

    tls_key: Path | None = None
    """The private key of `tls_cert`, PEM, without a password."""

    tls_client_ca: Path | None = None
    """Who signs the certificates that workers then have to show, PEM."""

    cors_origins: str | None = attrs.field(default=None, validator=_are_origins)
    """Origins whose pages may read answers, exactly and with commas; none when not set."""

    public_url: str | None = attrs.field(default=None, validator=_is_public_url)
    """What addresses of callbacks begin with, such as https://jobs.example.com; the URL of the
    listener when not set."""

    webhook_allow: str | None = attrs.field(default=None, validator=_are_places)
    """What webhooks may reach beside the public internet, with commas: host names, domains such as
    *.corp.example, networks such as 10.1.0.0/16. What is named here may be http:// too."""

    key_file: Path | None = None
    """The Ed25519 key that signs tokens; `key.pem` in the data directory when not set."""

    vault_file: Path | None = None
    """The key that seals secrets of webhooks; made beside `key_file`, as `<key_file>.vault`, when
    not set. Without it those secrets are lost, and rotating `key_file` leaves it as it is."""

    jwks: str | None = None
    """The keys of an external issuer: a JWKS file, or its URL (https, or http of this machine)."""

    issuer: str | None = None
    """What the tokens of that issuer name as `iss`; needed with `jwks`."""

    audience: str | None = None
    """What they must name in `aud`; needed with `jwks`."""

    leeway_s: int = attrs.field(
        default=30, validator=[attrs.validators.ge(0), attrs.validators.le(300)]
    )
    """How far that issuer's clock may be from ours."""

    jwks_ttl_s: float = attrs.field(
        default=600.0, validator=[attrs.validators.ge(10), attrs.validators.le(86_400)]
    )
    """How long its keys are good; they are fetched again before, and for an unknown key."""

    claim_scopes: str = "scope,scp"
    """The claims of its tokens that hold scopes, several by commas."""

    claim_roles: str = "roles"
    """The claims that hold roles."""

    claim_tenants: str = "tenant,tenants,stella:tenant"
    """The claims that hold tenants; of several, what all of them name is allowed."""

    wait_database_s: float = attrs.field(
        default=60.0, validator=[attrs.validators.ge(0), attrs.validators.le(86_400)]
    )
    """How long `serve` waits at its start for a database that is away or taken by a node."""

    drain_s: float = attrs.field(
        default=8.0, validator=[attrs.validators.ge(0), attrs.validators.le(3600)]
    )
    """What workers get to finish or release their jobs when the engine stops."""

    log_level: str = attrs.field(default="info", validator=attrs.validators.in_(LOG_LEVELS))
    """The least severe events that are logged: debug, info, warning or error."""


@attrs.frozen
class Configuration:
    """`unknown`: names in the environment that look like settings and are none, with a guess."""

    settings: Settings
    options: NodeOptions
    values: tuple[Value, ...]
    unknown: Mapping[str, str | None]

    @property
    def data_dir(self) -> Path:
        assert self.settings.data_dir is not None
        return self.settings.data_dir

    @property
    def key_file(self) -> Path:
        return self.options.key_file or self.data_dir / "key.pem"

    @property
    def vault_file(self) -> Path:
        return self.options.vault_file or vault_path(self.key_file)


def endpoint_of(text: str) -> tuple[str, int]:
    """The host and port of HOST:PORT; an IPv6 address stands in brackets. Raises `ValueError`."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(text)
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(text)
    return host, int(port)


def settings_known() -> dict[str, Setting]:
    """Every setting by name, in the order in which they are documented."""
    return {
        setting.name: setting for owner in (NodeOptions, Settings) for setting in settings_of(owner)
    }


def configure(
    flags: Mapping[str, tuple[str, Any]] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Configuration:
    """The configuration of a node. `flags`: by setting, a flag's name and its value or None.

    The file is named by `file`, else by JOBENGINE_CONFIG. Raises `ConfigurationError`.
    """
    environ = os.environ if environ is None else environ
    known = settings_known()
    from_file = _read_file(file, environ, known)
    values = {}
    for name, setting in known.items():
        flag, given = (flags or {}).get(name, ("", None))
        if given is not None:
            value = Value(setting, checked(setting, given, flag), flag)
        elif setting.variable in environ:
            value = Value(
                setting,
                checked(setting, environ[setting.variable], setting.variable),
                setting.variable,
            )
        elif name in from_file:
            value = from_file[name]
        else:
            value = Value(setting, setting.default, "default")
        values[name] = value
    if values["data_dir"].value is None:
        values["data_dir"] = Value(known["data_dir"], _default_data_dir(environ), "default")
    return Configuration(
        settings=Settings(**_of(Settings, values)),
        options=NodeOptions(**_of(NodeOptions, values)),
        values=tuple(values.values()),
        unknown=_unknown(environ, known),
    )


def _of(owner: type[Any], values: Mapping[str, Value]) -> dict[str, Any]:
    return {name: value.value for name, value in values.items() if value.setting.owner is owner}


def _read_file(
    file: Path | None, environ: Mapping[str, str], known: Mapping[str, Setting]
) -> dict[str, Value]:
    if file is None:
        named = environ.get(PREFIX + "CONFIG")
        if not named:
            return {}
        file = Path(named)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}; name another --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not TOML: {error}") from None
    for name in content:
        if name not in known:
            raise ConfigurationError(f"{file}: there is no setting {name!r}{_hint(name, known)}")
    return {
        name: Value(known[name], checked(known[name], value, f"{file}: {name}"), str(file))
        for name, value in content.items()
    }


def _unknown(environ: Mapping[str, str], known: Mapping[str, Setting]) -> dict[str, str | None]:
    taken = {name.upper() for name in known} | _NO_SETTINGS
    found: dict[str, str | None] = {}
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX)
        if name != variable and name not in taken and not variable.startswith(_OTHERS):
            close = difflib.get_close_matches(name, sorted(taken), n=1)
            found[variable] = PREFIX + close[0] if close else None
    return found


def _hint(name: str, known: Mapping[str, Setting]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else "; `jobengine config show` lists them"


def _default_data_dir(environ: Mapping[str, str]) -> Path:
    """For root not below its home: the account that PostgreSQL then runs as cannot enter that."""
    if os.geteuid() == 0:
        return _ROOTS_DATA_DIR
    base = environ.get("XDG_DATA_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share"
    return root / "jobengine"
