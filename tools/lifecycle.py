"""`docs/lifecycle.md`: the table of legal transitions, drawn."""

from jobengine.domain.job import FINAL, TRANSITIONS, Transition

_HEAD = """\
# Job lifecycle

Made from `TRANSITIONS` in `jobengine/domain/job.py` by `make generate`. The store's guards, the
API's refusals, the simulator and the replay verifier read the same table; a change of state that is
not in it is refused with `409 ILLEGAL_TRANSITION`.
"""


def page() -> str:
    return "\n".join([_HEAD, *_diagram(), "", *_table(), "", _final(), ""])


def _diagram() -> list[str]:
    arrows = [f"    {row.source or '[*]'} --> {row.target}: {row.trigger}" for row in TRANSITIONS]
    ends = [f"    {state} --> [*]" for state in sorted(FINAL)]
    return ["```mermaid", "stateDiagram-v2", *arrows, *ends, "```"]


def _table() -> list[str]:
    head = ["| from | to | trigger | event | reasons | what happens |", "|---|---|---|---|---|---|"]
    return [*head, *(_row(row) for row in TRANSITIONS)]


def _row(row: Transition) -> str:
    reasons = ", ".join(f"`{reason}`" for reason in sorted(row.reasons)) or "–"
    source = f"`{row.source}`" if row.source else "–"
    return f"| {source} | `{row.target}` | {row.trigger} | `{row.event}` | {reasons} | {row.note} |"


def _final() -> str:
    names = " and ".join(f"`{state}`" for state in sorted(FINAL))
    return (
        f"{names} are final. `failed` without a retry left stays so until an operator retries it;"
        " it then has a dead letter."
    )
