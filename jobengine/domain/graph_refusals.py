"""Why nodes and edges make no graph: code ``RUN_INVALID``, ``details.path`` names the field.

Not here: what is refused (``graph``).
"""

from jobengine.domain.errors import ErrorCode, Refusal

__all__ = ["bad_source", "invalid", "too_many"]


def invalid(path: str, why: str, **details: str) -> Refusal:
    return Refusal(ErrorCode.RUN_INVALID, f"{path}: {why}", {"path": path, **details})


def too_many(what: str, limit: int) -> Refusal:
    why = f"a run has at most {limit} {what}"
    return Refusal(ErrorCode.RUN_INVALID, why, {"path": "jobs", "limit": limit, "of": what})


def bad_source(path: str, key: str, of: str) -> Refusal:
    if key == of:
        why = f"{key[:160]!r} cannot depend on itself"
        details = {"path": path, "cycle": [key, key], "length": 1}
        return Refusal(ErrorCode.RUN_INVALID, f"{path}: {why}", details)
    return invalid(path, f"there is no {key[:160]!r} in this run", key=key[:160])
