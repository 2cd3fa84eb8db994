"""Loaded by Schemathesis: what the document cannot say about how to call the engine."""

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(_: Any, value: Any) -> Any:
    """The schema of such a body is a string: its lines."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """A claim waits for a job for as long as it says; nothing will come here."""
    if isinstance(case.body, dict) and isinstance(case.body.get("waitSeconds"), int | float):
        case.body["waitSeconds"] = min(case.body["waitSeconds"], 0)
