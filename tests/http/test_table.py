"""What must hold for every row of the route table, present and future."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobengine.auth.scopes import Scope
from jobengine.domain.errors import ErrorCode
from jobengine.http.errors import STATUS_OF
from jobengine.http.route import Route
from jobengine.http.table import OPEN_ROUTES, ROUTES, SIGNED_ROUTES


def test_every_error_code_has_a_status() -> None:
    assert set(STATUS_OF) == set(ErrorCode)


def test_names_and_paths_are_unique() -> None:
    rows: list[Any] = [*ROUTES, *SIGNED_ROUTES, *OPEN_ROUTES]
    assert len({row.name for row in rows}) == len(rows)
    assert len({(row.method, row.path) for row in rows}) == len(rows)


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: row.name)
def test_a_row_says_all_that_a_description_needs(row: Route) -> None:
    assert row.scopes
    assert row.summary
    assert row.answers
    reads = {
        "/apikeys": (Scope.ADMIN,),
        "/governance": (Scope.QUOTA,),
        "/artifacts/{digest}": (Scope.READ, Scope.WORK),
        "/runs/{runId}/callbacks": (Scope.OPERATE,),
        "/runs:export": (Scope.AUDIT,),
    }.get(row.path, (Scope.READ,))
    assert row.scopes == reads if row.method == "GET" else Scope.READ not in row.scopes
    assert (row.body is None) == (row.method in ("GET", "DELETE"))
    assert row.query.__struct_config__.forbid_unknown_fields


def test_every_type_of_the_table_has_a_json_schema() -> None:
    types = [kind for row in ROUTES for kind in row.answers.values() if kind is not None]
    types += [kind for row in OPEN_ROUTES for kind in row.answers.values() if kind is not None]
    types += [row.body for row in ROUTES if row.body is not None]
    types += [row.query for row in ROUTES]
    _, components = msgspec.json.schema_components(types)
    assert "JobView" in components


def test_the_documentation_names_every_endpoint() -> None:
    text = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text()
    rows: list[Any] = [*ROUTES, *SIGNED_ROUTES, *OPEN_ROUTES]
    for row in rows:
        assert f"`{row.method} {row.path}`" in text
