"""Runs that are written node by node: what is sent, and what is refused before it is."""

from typing import Any

import msgspec
import pytest

from jobengine.sdk.run_draft import RunDraft


def sent(draft: RunDraft) -> Any:
    """The document, without what is empty."""
    document = msgspec.json.decode(msgspec.json.encode(draft.request()))
    document["jobs"] = [
        {name: value for name, value in each.items() if value not in ({}, [])}
        for each in document["jobs"]
    ]
    return document


def test_nodes_are_sent_with_all_that_was_said_of_them() -> None:
    draft = RunDraft("nightly-1", inputs={"day": 1}, fail_fast=True)
    fetch = draft.job("fetch", "osv.fetch", {"day": "${inputs.day}"}, template=True, max_retries=0)
    parts = draft.map(
        "match", "sbom.match", over="results.fetch.shards", payload={"s": "${item}"}, after=[fetch]
    )
    draft.approval("ok", "is it good?", after=[parts])
    draft.callback("heard", {"to": "them"}, after=[parts])
    draft.policy("enough", "length(results.match) > `0`", after=[parts])
    draft.sub_run("publish", "publish", version=2, inputs={"n": 1}, after=["ok", "enough"])
    draft.job("report", "report.write", after=["publish"], trigger="all_done", when="inputs.day")
    assert sent(draft) == {
        "runToken": "nightly-1",
        "inputs": {"day": 1},
        "failFast": True,
        "jobs": [
            {
                "key": "fetch",
                "jobType": "osv.fetch",
                "payload": {"day": "${inputs.day}"},
                "template": True,
                "maxRetries": 0,
            },
            {
                "key": "match",
                "kind": "map",
                "jobType": "sbom.match",
                "over": "results.fetch.shards",
                "payload": {"s": "${item}"},
                "template": True,
                "dependsOn": ["fetch"],
            },
            {"key": "ok", "kind": "approval", "message": "is it good?", "dependsOn": ["match"]},
            {"key": "heard", "kind": "callback", "payload": {"to": "them"}, "dependsOn": ["match"]},
            {
                "key": "enough",
                "kind": "policy",
                "require": "length(results.match) > `0`",
                "dependsOn": ["match"],
            },
            {
                "key": "publish",
                "kind": "sub_run",
                "run": {"dagId": "publish", "version": 2, "inputs": {"n": 1}},
                "dependsOn": ["ok", "enough"],
            },
            {
                "key": "report",
                "jobType": "report.write",
                "dependsOn": ["publish"],
                "trigger": "all_done",
                "when": "inputs.day",
            },
        ],
    }


def test_a_key_is_given_once() -> None:
    draft = RunDraft("t")
    draft.job("a", "noop")
    with pytest.raises(ValueError, match="'a' is a node already"):
        draft.job("a", "noop")


def test_a_node_comes_after_nodes_that_are_there() -> None:
    draft = RunDraft("t")
    draft.job("a", "noop")
    with pytest.raises(ValueError, match=r"'b' comes after 'c', which is no node yet.*'a'"):
        draft.job("b", "noop", after=["c"])
    with pytest.raises(ValueError, match="'b' comes after 'b'"):
        draft.job("b", "noop", after=["b"])
    with pytest.raises(ValueError, match="twice"):
        draft.job("b", "noop", after=["a", "a"])


def test_a_single_key_is_no_list_of_letters() -> None:
    draft = RunDraft("t")
    first = draft.job("ab", "noop")
    draft.job("c", "noop", after=first)
    assert sent(draft)["jobs"][1]["dependsOn"] == ["ab"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"priority": 12}, "node 'a'.*<= 9"),
        ({"hold": True}, "node 'a'.*approval"),
        ({"no_such_field": 1}, "node 'a'.*no_such_field"),
    ],
)
def test_a_node_that_cannot_be_right_is_refused_where_it_is_written(
    fields: dict[str, Any], why: str
) -> None:
    draft = RunDraft("t")
    with pytest.raises(ValueError, match=why):
        draft.job("a", "noop", **fields)
    draft.job("a", "noop")


def test_what_is_no_run_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ValueError, match="needs jobs, or a dagId"):
        RunDraft("t").request()
    draft = RunDraft("t", dag_id="nightly")
    draft.job("a", "noop")
    with pytest.raises(ValueError, match="come from the DAG"):
        draft.request()
