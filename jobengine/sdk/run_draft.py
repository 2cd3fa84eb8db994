"""A run that is written node by node, checked as it is written, and not sent.

I1  A node depends on nodes that were written before it, so what is written has no cycle.
I2  What the engine's types would refuse of a node is refused where the node is written.

Not here: sending it (`runs`), expressions in payloads, which the engine judges.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from jobengine.wire.fields import json_of, raw
from jobengine.wire.runs import (
    JoinName,
    NodeKindName,
    NodeRequest,
    RunRequest,
    SubRunRequest,
    TriggerName,
)

__all__ = ["RunDraft"]


class RunDraft:
    """Every method that adds a node returns its key, for `after` of later ones and for
    expressions: `fetch = run.job("fetch", …)`, then `"${results.fetch.pages}"`.

    `after` names what a node depends on; `trigger` says how those must have ended; `when` is an
    expression that skips the node where it is false. Expressions look at `inputs`, `results` (of
    what the node depends on) and `run`. What cannot be right raises ValueError.
    """

    def __init__(
        self,
        run_token: str,
        *,
        inputs: Any = None,
        dag_id: str | None = None,
        version: int | None = None,
        project_id: str | None = None,
        fail_fast: bool | None = None,
        correlation_id: str | None = None,
    ) -> None:
        self._nodes: dict[str, NodeRequest] = {}
        given = {
            "runToken": run_token,
            "inputs": inputs,
            "dagId": dag_id,
            "version": version,
            "projectId": project_id,
            "failFast": fail_fast,
            "correlationId": correlation_id,
        }
        self._head = {name: value for name, value in given.items() if value is not None}

    def job(
        self,
        key: str,
        job_type: str,
        payload: Any = None,
        *,
        after: Iterable[str] = (),
        trigger: TriggerName = "all_succeeded",
        when: str | None = None,
        template: bool = False,
        **fields: Any,
    ) -> str:
        """Work for a worker. `fields` are JobRequest's.

        With `template` the strings of `payload` may hold `${expressions}`; else it reaches its
        worker as it is.
        """
        return self._add(
            key,
            "job",
            after,
            trigger,
            when,
            job_type=job_type,
            payload=payload,
            template=template or None,
            **fields,
        )

    def map(
        self,
        key: str,
        job_type: str,
        *,
        over: str,
        payload: Any = None,
        join: JoinName | None = None,
        after: Iterable[str] = (),
        trigger: TriggerName = "all_succeeded",
        when: str | None = None,
        **fields: Any,
    ) -> str:
        """A job for each place of the list that the expression `over` finds.

        `payload` is a template that sees `item` and `index` as well. Who comes after waits for all
        of them; `join` is the rule by which they count as a success.
        """
        return self._add(
            key,
            "map",
            after,
            trigger,
            when,
            job_type=job_type,
            payload=payload,
            template=True,
            over=over,
            join=join,
            **fields,
        )

    def approval(
        self,
        key: str,
        message: str | None = None,
        *,
        after: Iterable[str] = (),
        trigger: TriggerName = "all_succeeded",
        when: str | None = None,
    ) -> str:
        """Waits for an operator, who reads `message`."""
        return self._add(key, "approval", after, trigger, when, message=message)

    def callback(
        self,
        key: str,
        payload: Any = None,
        *,
        after: Iterable[str] = (),
        trigger: TriggerName = "all_succeeded",
        when: str | None = None,
    ) -> str:
        """Waits for a request to a signed URL, which `run_callbacks` shows once it is open."""
        return self._add(key, "callback", after, trigger, when, payload=payload)

    def policy(
        self,
        key: str,
        require: str,
        *,
        after: Iterable[str] = (),
        trigger: TriggerName = "all_succeeded",
        when: str | None = None,
    ) -> str:
        """Completes where the expression `require` is true, and fails where it is not."""
        return self._add(key, "policy", after, trigger, when, require=require)

    def sub_run(
        self,
        key: str,
        dag_id: str,
        *,
        version: int | None = None,
        inputs: Any = None,
        after: Iterable[str] = (),
        trigger: TriggerName = "all_succeeded",
        when: str | None = None,
    ) -> str:
        """A run of a registered DAG, and ends as that does. `inputs` is a template."""
        run = SubRunRequest(dag_id=dag_id, version=version)
        if inputs is not None:
            run.inputs = raw(inputs)
        return self._add(key, "sub_run", after, trigger, when, run=run)

    def request(self) -> RunRequest:
        """What has been written so far, as it is sent. Raises ValueError when that is no run."""
        document: Mapping[str, Any] = {**self._head, "jobs": list(self._nodes.values())}
        try:
            return msgspec.json.decode(json_of(document), type=RunRequest)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None

    def _add(
        self,
        key: str,
        kind: NodeKindName,
        after: Iterable[str],
        trigger: TriggerName,
        when: str | None,
        **fields: Any,
    ) -> str:
        if key in self._nodes:
            raise ValueError(f"{key!r} is a node already; keys are unique in a run")
        # A single key is a string too, whose letters are no keys.
        sources = [after] if isinstance(after, str) else list(after)
        for nth, source in enumerate(sources):
            if source not in self._nodes:
                known = ", ".join(map(repr, list(self._nodes)[-10:])) or "none"
                raise ValueError(
                    f"{key!r} comes after {source!r}, which is no node yet; write that first "
                    f"(the latest are: {known})"
                )
            if source in sources[:nth]:
                raise ValueError(f"{key!r} comes after {source!r} twice; name it once")
        given = {name: value for name, value in fields.items() if value is not None}
        if "payload" in given and not isinstance(given["payload"], msgspec.Raw):
            given["payload"] = raw(given["payload"])
        try:
            node = NodeRequest(
                key=key, kind=kind, depends_on=sources, trigger=trigger, when=when, **given
            )
            self._nodes[key] = msgspec.json.decode(msgspec.json.encode(node), type=NodeRequest)
        except (TypeError, ValueError) as error:
            raise ValueError(f"node {key!r}: {error}") from None
        return key
