"""How commands reach a running engine, and what its refusals become.

Exit codes: 2 for a token or tenant that is not accepted, 3 when the state of the target does not
allow what was asked, 64 for what is wrong with the question, 1 for the rest.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import click
from click.core import ParameterSource

from jobengine.cli.failure import CommandFailedError, ExitCode
from jobengine.cli.output import output_option, printable

if TYPE_CHECKING:
    from jobengine.sdk import ApiError, Client, UnsendableError

__all__ = [
    "Engine",
    "audited",
    "engine_options",
    "file_of_token",
    "read_secret",
    "reasoned",
    "unsendable_text",
]

F = TypeVar("F", bound=Callable[..., Any])
_VARIABLES: Final = {"token": "JOBENGINE_TOKEN", "tenant": "JOBENGINE_TENANT"}
_SECRET_CHARACTERS_MAX: Final = 16_384


@attrs.frozen
class Engine:
    """A running engine and who asks; None leaves it to the SDK's defaults."""

    url: str
    token: str | None
    tenant: str | None

    @contextmanager
    def client(self) -> "Iterator[Client]":
        """A client for the block, whose faults leave it as `CommandFailedError`."""
        import httpx

        from jobengine.sdk import ApiError, Client, UnsendableError
        from jobengine.sdk.trust import TrustUnusableError

        if not self.token:
            raise CommandFailedError(
                "no token: set JOBENGINE_TOKEN or give --token-file (`jobengine up` prints one)",
                ExitCode.DENIED,
            )
        try:
            with Client(self.url, token=self.token, tenant=self.tenant, retries_max=2) as client:
                yield client
        except ApiError as error:
            raise _refusal(error) from None
        except TrustUnusableError as error:
            raise CommandFailedError(str(error)) from None
        except UnsendableError as error:
            raise CommandFailedError(unsendable_text(error), ExitCode.USAGE) from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL):
            raise CommandFailedError(
                f"--url {self.url!r} is no http:// or https:// URL", ExitCode.USAGE
            ) from None
        except httpx.LocalProtocolError:
            # What it says quotes headers, and one of them is the token.
            raise CommandFailedError("what was asked cannot be sent over HTTP") from None
        except httpx.TransportError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise CommandFailedError(
                    f"the certificate of {self.url} is not accepted ({error}): name its authority "
                    "in JOBENGINE_CA_FILE"
                ) from None
            raise CommandFailedError(
                f"no engine answers at {self.url} ({error}): start one with `jobengine up`, or "
                "correct --url"
            ) from None


def engine_options(command: F) -> F:
    """Gives a command --url, --token, --token-file, --tenant (as `engine`) and --output."""

    @functools.wraps(command)
    def with_engine(
        url: str, token: str | None, token_file: str | None, tenant: str | None, **rest: Any
    ) -> Any:
        if (file := file_of_token(token_file)) is not None:
            token = read_secret(file)
        return command(engine=Engine(url, token, tenant), **rest)

    wrapped: Any = with_engine
    for option in (
        output_option,
        click.option("--tenant", envvar="JOBENGINE_TENANT", show_envvar=True, help="Whose jobs."),
        click.option(
            "--token-file",
            metavar="FILE",
            envvar="JOBENGINE_TOKEN_FILE",
            show_envvar=True,
            help="A file with the token, instead of --token; - reads it from stdin.",
        ),
        click.option(
            "--token",
            envvar="JOBENGINE_TOKEN",
            show_envvar=True,
            callback=_warn_of_arguments,
            help="Who asks; see `token issue`. Better in the environment: others see arguments.",
        ),
        click.option(
            "--url",
            envvar="JOBENGINE_URL",
            show_envvar=True,
            default="http://127.0.0.1:7070",
            show_default=True,
            help="The engine.",
        ),
    ):
        wrapped = option(wrapped)
    result: F = wrapped
    return result


def file_of_token(token_file: str | None) -> str | None:
    """The file that the running command takes its token from; None where it has no --token-file,
    and JOBENGINE_TOKEN_FILE gives way to --token."""
    source = click.get_current_context().get_parameter_source
    token_given, file_given = (
        source(name) is ParameterSource.COMMANDLINE for name in ("token", "token_file")
    )
    return None if token_given and not file_given else token_file


def read_secret(place: str) -> str:
    """The one line of a file, or of stdin for `-`. Raises `CommandFailedError`."""
    try:
        if place == "-":
            text = sys.stdin.read(_SECRET_CHARACTERS_MAX)
        else:
            with Path(place).open(encoding="utf-8") as file:
                text = file.read(_SECRET_CHARACTERS_MAX)
    except OSError as error:
        raise CommandFailedError(f"{place}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandFailedError(f"{place} holds no token") from None
    lines = text.split()
    if len(lines) != 1:
        raise CommandFailedError(
            f"{place} does not hold one token and nothing else", ExitCode.DENIED
        )
    return lines[0]


def _warn_of_arguments(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    given = context.get_parameter_source(parameter.name or "")
    if given is ParameterSource.COMMANDLINE:
        print(
            "jobengine: warning: other users of this machine can read --token; "
            "use JOBENGINE_TOKEN or --token-file",
            file=sys.stderr,
        )
    return value


def audited(command: F) -> F:
    """Gives a command --reason and --ticket, without which the engine would refuse it."""
    ticket = click.option(
        "--ticket", callback=_require, help="Where it was decided, such as OPS-17; for the audit."
    )
    reason = click.option("--reason", callback=_require, help="Why; kept in the audit.")
    return reason(ticket(command))


def reasoned(command: F) -> F:
    """Gives a command --reason, without which the engine would refuse it, and --ticket."""
    ticket = click.option("--ticket", help="Where it was decided, such as OPS-17; for the audit.")
    reason = click.option("--reason", callback=_require, help="Why; kept in the audit.")
    return reason(ticket(command))


def _require(_: click.Context, parameter: click.Parameter, value: str | None) -> str:
    if not value:
        raise click.UsageError(
            f"--{parameter.name} is missing: operations are audited, so the engine asks for it"
        )
    return value


def unsendable_text(error: "UnsendableError") -> str:
    """Which option it was, and what is wrong with it."""
    option = f"--{error.parameter.replace('_', '-')}"
    variable = _VARIABLES.get(error.parameter)
    return f"{option}{f' or {variable}' if variable else ''} {error.why}"


def _refusal(error: "ApiError") -> CommandFailedError:
    code = {
        400: ExitCode.USAGE,
        401: ExitCode.DENIED,
        403: ExitCode.DENIED,
        409: ExitCode.REFUSED,
        412: ExitCode.REFUSED,
        422: ExitCode.USAGE,
    }.get(error.http_status, ExitCode.ERROR)
    message = printable(f"{error.message} ({error.code})")
    if error.http_status == 401:
        message += ": give a valid --token or JOBENGINE_TOKEN"
    elif error.code == "TENANT_REQUIRED":
        message += ": give --tenant or JOBENGINE_TENANT"
    return CommandFailedError(message, code)
