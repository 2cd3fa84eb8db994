"""Explanations for people: which gates are closed, and what opens them."""

from typing import TYPE_CHECKING

from jobengine.cli.output import print_fields, print_table

if TYPE_CHECKING:
    from jobengine.wire.explanations import JobExplanation

__all__ = ["print_explanation", "waits_for"]


def print_explanation(found: "JobExplanation") -> None:
    """One job: its place, then a line for each closed gate."""
    print_fields(
        [
            ("job", found.job_id),
            ("state", found.state),
            ("position", found.position),
            ("starts about", found.estimated_start_at),
        ]
    )
    if found.gates:
        print()
        print_table(
            ("GATE", "KEY", "OBSERVED", "LIMIT", "OPENS", "WHY"),
            [
                (
                    gate.gate,
                    gate.key,
                    gate.observed,
                    gate.limit,
                    gate.opens_at or f"with {gate.opens_on}",
                    gate.message,
                )
                for gate in found.gates
            ],
        )
    elif found.state == "scheduled":
        print("every gate is open: the next step starts it")


def waits_for(found: "JobExplanation") -> str:
    """The closed gates of a job on one line."""
    return ", ".join(f"{gate.gate} {gate.key}" for gate in found.gates) or "nothing: it starts"
