"""One run as it is printed."""

from typing import TYPE_CHECKING, Final

from jobengine.cli.output import Form, print_fields, print_json, printable

if TYPE_CHECKING:
    from rich.text import Text

    from jobengine.wire.run_views import RunView

__all__ = ["dag_of", "drawable", "print_run", "took"]

_ERRORS_SHOWN: Final = 10


def print_run(found: "RunView", output: Form) -> None:
    """One run, whole."""
    if output == "json":
        print_json(found)
        return
    rolled = found.roll_up
    ended = None
    errors = [] if rolled is None else rolled.errors
    if rolled is not None:
        ended = (
            f"{rolled.completed} completed, {rolled.failed} failed, {rolled.cancelled} cancelled"
        )
    print_fields(
        [
            ("run", found.run_id),
            ("token", found.run_token),
            ("dag", dag_of(found)),
            ("project", found.project_id),
            ("state", found.state),
            ("nodes", found.nodes),
            ("ended", ended),
            ("inputs", bytes(found.inputs).decode()),
            ("created", f"{found.created_at} by {found.created_by}"),
            ("started", found.started_at),
            ("finished", found.finished_at),
            ("took", took(found.duration_ms)),
            ("cancel asked", found.cancel_requested_at),
            ("replay of", found.replay_of),
            ("sub-run of", found.parent_run_id),
            *(("failed", f"{each.key}: {each.error or '-'}") for each in errors[:_ERRORS_SHOWN]),
        ]
    )
    if len(errors) > _ERRORS_SHOWN:
        print(f"… and {len(errors) - _ERRORS_SHOWN} more; see `jobengine run dag`")


def took(duration_ms: int | None) -> str | None:
    """A duration for people."""
    if duration_ms is None:
        return None
    if duration_ms < 1000:
        return f"{duration_ms} ms"
    seconds = duration_ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def dag_of(found: "RunView") -> str | None:
    """DAG and version that it is of."""
    return None if found.dag_id is None else f"{found.dag_id} {found.dag_version}"


def drawable(line: "Text") -> "Text":
    """The line, with its colours, as `printable` has it: rich lets some controls through."""
    line.plain = printable(line.plain)
    return line
