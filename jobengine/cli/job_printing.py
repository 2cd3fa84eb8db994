"""How one job is shown, and why it failed."""

from typing import TYPE_CHECKING

from jobengine.cli.output import Form, print_fields, print_json

if TYPE_CHECKING:
    from jobengine.wire.jobs import JobFailure, JobView, ProgressNote

__all__ = ["failure_text", "print_job"]


def print_job(found: "JobView", output: Form) -> None:
    """One job, whole."""
    import msgspec

    if output == "json":
        print_json(found)
        return
    print_fields(
        [
            ("job", found.job_id),
            ("type", found.job_type),
            ("queue", found.queue),
            ("state", found.state),
            ("reason", found.reason),
            ("priority", found.priority),
            ("attempt", f"{found.attempt} (failures {found.failures} of {found.max_retries + 1})"),
            ("crashes", found.crashes or None),
            ("progress", _progress_text(found.progress)),
            ("held", "yes" if found.hold else None),
            ("waits for", " ".join(found.depends_on) or None),
            ("project", found.project_id),
            ("run", _run_text(found)),
            ("source", found.source_id),
            ("unique key", _unique_text(found)),
            ("concurrency", _concurrency_text(found)),
            ("labels", " ".join(f"{k}={v}" for k, v in found.labels.items()) or None),
            ("created", found.created_at),
            ("not before", found.not_before),
            ("expires", found.expires_at),
            ("started", found.started_at),
            ("cancel asked", found.cancel_requested_at),
            ("finished", found.finished_at),
            ("payload", bytes(found.payload).decode()),
            ("result", None if found.result is msgspec.UNSET else bytes(found.result).decode()),
            ("error", failure_text(found.error)),
            ("replay of", found.replay_of),
        ]
    )


def failure_text(error: "JobFailure | None") -> str | None:
    """Class and message of a failure, on one line."""
    return None if error is None else f"{error.class_}: {' '.join(error.message.split())}"


def _progress_text(progress: "ProgressNote | None") -> str | None:
    if progress is None:
        return None
    percent = "" if progress.percent is None else f"{progress.percent:g}%"
    return " ".join([percent, *(progress.message or "").split()]).strip() or None


def _run_text(found: "JobView") -> str | None:
    if found.run_id is None or found.run_key is None:
        return found.run_id
    return f"{found.run_id} as {found.run_key}"


def _unique_text(found: "JobView") -> str | None:
    if found.unique_key is None or found.window_seconds is None:
        return found.unique_key
    return f"{found.unique_key} for {found.window_seconds} s"


def _concurrency_text(found: "JobView") -> str | None:
    if found.concurrency_key is None:
        return None
    return f"{found.concurrency_key}, {found.concurrency_limit} at once"
