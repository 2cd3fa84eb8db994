"""Shapes of registered documents: DAG templates and packs, in versions that never change.

I1  A request refuses unknown fields; an answer may grow fields, so a reader ignores them.
"""

from typing import Literal

import msgspec

from jobengine.wire.fields import Instant, LongText, Name, raw_object
from jobengine.wire.runs import EdgeRequest, NodeRequest, Version

__all__ = ["DagRequest", "DagSummary", "DagTemplateView", "DocumentStateName"]

DocumentStateName = Literal["enabled", "disabled"]


class DagRequest(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A version of a DAG template, the next one where ``version`` is absent.

    ``inputs`` is the JSON Schema (2020-12) of a run's inputs. Payloads are templates unless a node
    says `template: false`: their strings may hold `${inputs.…}` and `${results.KEY.…}`.
    """

    dag_id: Name
    version: Version | None = None
    description: LongText = ""
    inputs: msgspec.Raw = msgspec.field(default_factory=raw_object)
    jobs: list[NodeRequest]
    edges: list[EdgeRequest] = []
    fail_fast: bool = False


class DagSummary(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A version of a DAG template in a list. ``digest`` is sha256 of what is registered."""

    dag_id: str
    version: int
    digest: str
    state: DocumentStateName
    created_at: Instant
    created_by: str
    disabled_at: Instant | None = None


class DagTemplateView(DagSummary, omit_defaults=True, kw_only=True):
    """A version of a DAG template, with ``jobs`` and ``edges`` as they were given."""

    description: str
    inputs: msgspec.Raw
    fail_fast: bool
    jobs: msgspec.Raw
    edges: msgspec.Raw
