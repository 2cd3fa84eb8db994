"""The description says what the code does: complete, valid, and served as it is published."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from jobengine import __version__
from jobengine.auth.scopes import AUDIT_RULES, AuditRule, Scope
from jobengine.domain.errors import ErrorCode
from jobengine.http.errors import STATUS_OF, TRANSPORT_CODES
from jobengine.http.openapi import document
from jobengine.http.openapi_refusals import codes_of
from jobengine.http.published import published_document
from jobengine.http.table import OPEN_ROUTES, ROUTES, SIGNED_ROUTES
from tests.http.conftest import Rest
from tools import reference

DOCUMENT = published_document()
# Refusals of the worker protocol's sessions, and of endpoints that are not there yet.
NOT_OVER_REST = {
    ErrorCode.ARTIFACT_INVALID,
    ErrorCode.DUPLICATE_HELLO,
    ErrorCode.HELLO_REQUIRED,
    ErrorCode.METHOD_NOT_ALLOWED,  # of a path without an operation
    ErrorCode.SOURCE_UNKNOWN,
    ErrorCode.UNKNOWN_OP,
}


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    found: Any = DOCUMENT
    for name in part.get("$ref", "#").split("/")[1:]:
        found = found[name]
    return part if found is DOCUMENT else found


def validator(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    whole = {**schema, "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(whole)


def test_it_is_valid_openapi_3_1() -> None:
    from openapi_python_client.schema import OpenAPI

    assert DOCUMENT["openapi"].startswith("3.1.")
    OpenAPI.model_validate(DOCUMENT)


def test_every_row_of_the_table_is_described() -> None:
    said = {key for key, _ in operations()}
    assert {f"{row.method} {row.base}{row.path}" for row in ROUTES} <= said
    assert {f"{row.method} {row.base}{row.path}" for row in SIGNED_ROUTES} <= said
    assert {f"{row.method} {row.path}" for row in OPEN_ROUTES if row.described} <= said
    assert {"GET /.well-known/openapi", "GET /openapi/jobengine.json"} <= said


def test_operation_ids_are_unique() -> None:
    names = [operation["operationId"] for _, operation in operations()]
    assert len(set(names)) == len(names)


def test_every_tag_is_described() -> None:
    described = {tag["name"] for tag in DOCUMENT["tags"]}
    assert {tag for _, operation in operations() for tag in operation["tags"]} == described


def test_every_reference_leads_somewhere() -> None:
    def walk(part: Any) -> None:
        if isinstance(part, dict):
            if "$ref" in part:
                resolved(part)
            for value in part.values():
                walk(value)
        elif isinstance(part, list):
            for value in part:
                walk(value)

    walk(DOCUMENT)


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: row.name)
def test_an_operation_says_scopes_headers_and_every_error(row: Any) -> None:
    operation = DOCUMENT["paths"][row.base + row.path][row.method.lower()]
    assert operation["x-scopes"] == [str(scope) for scope in row.scopes]
    given = [resolved(one) for one in operation["parameters"]]
    required = {one["name"] for one in given if one["required"]}
    assert "X-Stella-Tenant" in required
    both = row.method != "GET" and all(
        AUDIT_RULES[scope] is AuditRule.REASON_AND_TICKET for scope in row.scopes
    )
    assert ({"X-Stella-Operator-Reason", "X-Stella-Operator-Ticket"} <= required) == both
    named = {one["name"] for one in given}
    assert ("Idempotency-Key" in named) == (row.method == "POST" and row.scopes != (Scope.WORK,))
    for status, codes in codes_of(row).items():
        answer = resolved(operation["responses"][str(status)])
        assert answer["x-error-codes"] == codes
        assert "X-JobEngine-Version" in answer["headers"]
        assert ("Retry-After" in answer["headers"]) == (status in (429, 503))


def test_every_error_code_is_listed_and_met_somewhere() -> None:
    listed = DOCUMENT["components"]["schemas"]["ErrorCode"]["x-extensible-enum"]
    assert set(listed) == {*map(str, ErrorCode), *TRANSPORT_CODES.values()}
    rows: list[Any] = [*ROUTES, *SIGNED_ROUTES]
    met = {code for row in rows for codes in codes_of(row).values() for code in codes}
    met |= set(DOCUMENT["components"]["responses"]["LEASE_LOST"]["x-error-codes"])
    assert {str(code) for code in set(ErrorCode) - NOT_OVER_REST} <= met


def test_every_code_stands_under_its_status() -> None:
    for _, operation in operations():
        for status, answer in operation["responses"].items():
            for code in resolved(answer).get("x-error-codes", ()):
                if code != "REQUEST_TIMEOUT":
                    assert str(STATUS_OF[ErrorCode(code)]) == status


def test_every_example_is_an_instance_of_its_schema() -> None:
    checked = 0

    def check(content: dict[str, Any]) -> None:
        nonlocal checked
        for said in content.values():
            for example in said.get("examples", {}).values():
                validator(said["schema"]).validate(example["value"])
                checked += 1

    for _, operation in operations():
        check(operation.get("requestBody", {}).get("content", {}))
        for answer in operation["responses"].values():
            check(resolved(answer)["content"])
        for one in operation.get("parameters", ()):
            given = resolved(one)
            if "example" in given:
                validator(given["schema"]).validate(given["example"])
    assert checked > 100


def test_paging_idempotency_and_errors_are_shown_by_example() -> None:
    jobs = DOCUMENT["paths"]["/api/v1/jobengine/jobs"]
    pages = jobs["get"]["responses"]["200"]["content"]["application/json"]["examples"]
    assert pages["lastPage"]["value"]["nextPageToken"] is None
    assert "Idempotent-Replayed" in jobs["post"]["responses"]["200"]["headers"]
    mismatch = resolved(jobs["post"]["responses"]["422"])["content"]["application/json"]
    assert mismatch["examples"]["otherBody"]["value"]["error"]["code"] == "IDEMPOTENCY_MISMATCH"


async def test_a_running_engine_serves_the_description_of_what_it_answers(rest: Rest) -> None:
    root = f"http://127.0.0.1:{rest.port}"
    del rest.client.headers["Authorization"]
    found = (await rest.client.get(f"{root}/.well-known/openapi")).json()
    assert found["version"] == __version__
    assert found["generatedAt"].startswith("2026-")
    served = await rest.client.get(root + found["spec"])
    assert served.headers["Content-Type"] == "application/json"
    assert served.headers["X-JobEngine-Version"] == __version__
    own = document(ROUTES, OPEN_ROUTES, SIGNED_ROUTES)["paths"]
    assert {**own, **served.json()["paths"]} == served.json()["paths"]
    assert served.json()["paths"].keys() - own.keys() == {"/.well-known/openapi", found["spec"]}


def test_the_command_prints_the_published_document(capsys: pytest.CaptureFixture[str]) -> None:
    from jobengine.cli import main

    assert main(["openapi"]) == 0
    assert json.loads(capsys.readouterr().out) == DOCUMENT


def test_the_reference_names_every_operation_and_asks_nothing_of_the_network() -> None:
    page = reference.page()
    for key, operation in operations():
        assert f'id="{operation["operationId"]}"' in page
        assert key.partition(" ")[2].replace("&", "&amp;") in page
    for name in ("<script", "<link", "<img", "@import", "url(", "http://", "src="):
        assert name not in page


def test_the_documents_beside_it_are_named_in_the_guide() -> None:
    docs = Path(__file__).parents[2] / "docs"
    guide = (docs / "http-api.md").read_text()
    for name in ("openapi.json", "reference.html"):
        assert f"]({name})" in guide
        assert (docs / name).is_file()
