"""Packs over REST: registered, found, shown, disabled, and refused where they cannot run."""

from hashlib import sha256
from typing import Any

import msgspec
import pytest

from jobengine.domain.canonical import canonical
from tests.http.conftest import Rest
from tests.http.packing import Step, ask_pack, ask_run, conditional, parallel, register, run
from tests.http.running import refused

INPUTS = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def test_a_pack_is_registered_in_versions_and_found_by_its_digest(rest: Rest) -> None:
    first = await register(rest, run("build"), description="one", inputs=INPUTS)
    second = await register(rest, run("build"), run("scan"))
    assert [(each["version"], each["state"]) for each in (first, second)] == [
        (1, "enabled"),
        (2, "enabled"),
    ]
    assert (await rest.client.get("/packs/p/1")).json() == first
    assert (await rest.client.get(f"/packs/{second['digest']}")).json() == second
    listed = (await rest.client.get("/packs")).json()["items"]
    assert [(each["packId"], each["version"], each["digest"]) for each in listed] == [
        ("p", 1, first["digest"]),
        ("p", 2, second["digest"]),
    ]


async def test_lists_go_page_by_page_and_may_be_of_one_pack(rest: Rest) -> None:
    for pack in ("b", "a", "b"):
        await register(rest, run("build"), pack=pack)
    page = (await rest.client.get("/packs", params={"pageSize": 2})).json()
    rest_of = {"pageSize": 2, "pageToken": page["nextPageToken"]}
    last = (await rest.client.get("/packs", params=rest_of)).json()
    found = [(each["packId"], each["version"]) for each in page["items"] + last["items"]]
    assert found == [("a", 1), ("b", 1), ("b", 2)]
    assert last["nextPageToken"] is None
    of_b = (await rest.client.get("/packs", params={"packId": "b"})).json()["items"]
    assert [each["version"] for each in of_b] == [1, 2]


async def test_a_version_is_taken_once_and_answers_its_equal(rest: Rest) -> None:
    first = await ask_pack(rest, run("build"), version=3)
    again = await ask_pack(rest, run("build"), version=3)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    refused(await ask_pack(rest, run("other"), version=3), 409, "ALREADY_EXISTS", "version")
    refused(await ask_pack(rest, run("build"), version=1), 400, "INVALID_FIELD", "version")


async def test_a_repeat_under_its_idempotency_key_registers_nothing(rest: Rest) -> None:
    body = {"packId": "p", "steps": [run("build")]}
    first = await rest.client.post("/packs", json=body, headers={"Idempotency-Key": "k"})
    again = await rest.client.post("/packs", json=body, headers={"Idempotency-Key": "k"})
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    assert len((await rest.client.get("/packs")).json()["items"]) == 1


async def test_the_plan_that_is_shown_has_the_hash_that_is_shown(rest: Rest) -> None:
    shown = await register(rest, run("build"), parallel("scan", [run("left")], [run("right")]))
    plan = canonical(msgspec.json.encode(shown["plan"]))
    assert sha256(plan).hexdigest() == shown["planHash"]
    keys = [node["key"] for node in shown["plan"]["jobs"]]
    assert keys == ["build", "scan", "scan.left", "scan.right"]
    assert shown["steps"][0] == run("build")


async def test_a_pack_of_another_name_has_its_plan_and_not_its_digest(rest: Rest) -> None:
    one = await register(rest, run("build"), pack="one")
    other = await register(rest, run("build"), pack="other")
    assert one["planHash"] == other["planHash"]
    assert one["digest"] != other["digest"]


async def test_a_disabled_version_begins_no_run_until_it_is_enabled(rest: Rest) -> None:
    await register(rest, run("build"))
    disabled = await rest.operate("/packs/p/1:disable")
    assert disabled.json()["state"] == "disabled"
    assert "disabledAt" in disabled.json()
    refused(await ask_run(rest), 409, "VERSION_DISABLED", "version")
    assert (await rest.operate("/packs/p/1:enable")).json()["state"] == "enabled"
    assert (await ask_run(rest)).status_code == 201


async def test_a_run_goes_on_being_found_when_its_version_is_disabled(rest: Rest) -> None:
    await register(rest, run("build"))
    first = await ask_run(rest)
    await rest.operate("/packs/p/1:disable")
    again = await ask_run(rest)
    assert (again.status_code, again.json()["runId"]) == (200, first.json()["runId"])


@pytest.mark.parametrize("path", ["/packs/p/2", "/packs/q/1", "/packs/p/x", "/packs/sha256:0"])
async def test_what_is_not_registered_is_not_found(rest: Rest, path: str) -> None:
    await register(rest, run("build"))
    refused(await rest.client.get(path), 404, "NOT_FOUND")


async def test_packs_of_other_tenants_are_not_there(rest: Rest) -> None:
    shown = await register(rest, run("build"))
    headers = rest.headers(tenant="acme")
    for path in ("/packs/p/1", f"/packs/{shown['digest']}"):
        refused(await rest.client.get(path, headers=headers), 404, "NOT_FOUND")
    assert (await rest.client.get("/packs", headers=headers)).json()["items"] == []


def _reading(key: str) -> dict[str, str]:
    return {"of": f'${{results."{key}".id}}'}


@pytest.mark.parametrize(
    ("steps", "status", "code", "path"),
    [
        ([{"key": "a", "kind": "loop"}], 400, "INVALID_FIELD", "steps[0].kind"),
        ([run("a", hold=True)], 400, "INVALID_FIELD", "steps[0]"),
        ([run("a", dependsOn=["b"])], 400, "INVALID_FIELD", "steps[0]"),
        ([run("a", over="inputs.n")], 400, "INVALID_FIELD", "steps[0].over"),
        ([run("a.b")], 400, "INVALID_FIELD", "steps[0].key"),
        ([], 400, "INVALID_FIELD", "steps"),
        ([parallel("p", [])], 400, "INVALID_FIELD", "steps[0].branches[0]"),
        ([run("a"), run("a")], 422, "RUN_INVALID", "steps[1].key"),
        ([run("a", _reading("b")), run("b")], 422, "RUN_INVALID", "steps[0]"),
        ([run("a", {"x": "${inputs.}"})], 422, "TEMPLATE_INVALID", "steps[0].payload.x"),
        (
            [conditional("c", "inputs.n", [run("a", {"x": "${nope.n}"})], [])],
            422,
            "TEMPLATE_INVALID",
            "steps[0].then[0].payload.x",
        ),
        ([run("a", jobType="orch.map")], 400, "INVALID_FIELD", "steps[0].jobType"),
        (
            [{"key": "g", "kind": "gate.policy", "require": "nope.n"}],
            422,
            "TEMPLATE_INVALID",
            "steps[0].require",
        ),
    ],
)
async def test_a_pack_that_cannot_run_is_refused_at_its_step(
    shared: Rest, steps: list[Step], status: int, code: str, path: str
) -> None:
    refused(await ask_pack(shared, *steps), status, code, path)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"inputs": {"type": 7}}, 422, "INPUTS_INVALID"),
        ({"pack": "with:colon"}, 400, "INVALID_FIELD"),
        ({"unknown": 1}, 400, "INVALID_FIELD"),
    ],
)
async def test_a_pack_that_is_none_is_refused(
    rest: Rest, fields: dict[str, Any], status: int, code: str
) -> None:
    refused(await ask_pack(rest, run("build"), **fields), status, code)


async def test_a_reader_registers_nothing(rest: Rest) -> None:
    headers = rest.headers(scopes=["orch:read"])
    body = {"packId": "p", "steps": [run("build")]}
    refused(await rest.client.post("/packs", json=body, headers=headers), 403, "SCOPE_REQUIRED")
