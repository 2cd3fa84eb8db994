from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from jobengine.store.errors import ProgrammerError
from jobengine.store.postgres.statements import Statement, load_statements, parse_statements

HEAD = """\
-- name: {name}
-- purpose: something
-- rows: 0 or 1
-- index: t_pkey
-- locks: none
-- parameters: {parameters}
"""


def head(name: str = "thing", parameters: str = "none") -> str:
    return HEAD.format(name=name, parameters=parameters)


def parse(text: str) -> list[Statement]:
    return list(parse_statements(text, "things.sql"))


def test_placeholders_are_numbered_in_the_order_of_first_use() -> None:
    (statement,) = parse(
        head(parameters="now_at bigint, tenant_id uuid")
        + "SELECT %(tenant_id)s::uuid\nWHERE %(now_at)s > 1 AND %(tenant_id)s IS NULL;\n\n"
    )
    assert statement == Statement(
        name="thing",
        sql="SELECT $1::uuid\nWHERE $2 > 1 AND $1 IS NULL",
        parameters=("tenant_id", "now_at"),
    )


def test_literals_comments_and_quoted_text_are_left_alone() -> None:
    body = (
        "SELECT '%(a)s''%(a)s', E'\\'%(a)s', \"%(a)s\", $$ %(a)s $$, $x$ $$ %(a)s $x$, 7 % 3\n"
        "/* %(a)s $1 */ -- %(a)s %s"
    )
    (statement,) = parse(head() + body)
    assert statement.sql == body
    assert statement.parameters == ()


def test_a_file_holds_many_statements_and_remarks_before_them() -> None:
    text = "-- About things.\n\n" + head("one") + "SELECT 1;\n\n" + head("two") + "SELECT 2"
    assert [(found.name, found.sql) for found in parse(text)] == [
        ("one", "SELECT 1"),
        ("two", "SELECT 2"),
    ]


def test_several_names_make_statements_of_one_text_without_what_others_have() -> None:
    text = head("small, large", "a int, b int") + (
        "SELECT %(b)s\n    -- in: large\n    , %(a)s\n    -- end\n    -- in: small, large\n"
        "    , 7\n    -- end"
    )
    assert parse(text) == [
        Statement(name="small", sql="SELECT $1\n    , 7", parameters=("b",)),
        Statement(name="large", sql="SELECT $1\n    , $2\n    , 7", parameters=("b", "a")),
    ]


def test_a_head_line_goes_on_when_indented() -> None:
    text = head(parameters="a bigint,\n--   b text, c timestamp with time zone")
    (statement,) = parse(text + "SELECT %(c)s, %(b)s, %(a)s")
    assert statement.parameters == ("c", "b", "a")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (head().replace("-- index: t_pkey\n", "") + "SELECT 1", "thing: the head lacks index"),
        (head().replace("t_pkey", "") + "SELECT 1", "thing: the head lacks index"),
        (head() + "-- note: hm\nSELECT 1", "thing: the head has unknown lines note"),
        (head() + "SELECT %(a)s", "thing: unknown parameters a"),
        (head(parameters="a int, b int") + "SELECT %(a)s", "thing: parameters never used b"),
        (head(parameters="a int") + "SELECT %(a)s, $1", "[$]1 is no named placeholder"),
        (head(parameters="a int") + "SELECT %(a)s, %s", "%s is no named placeholder"),
        (head(), "thing: no SQL below the head"),
        (head("Thing") + "SELECT 1", "lower_case_with_underscores"),
        (head("one, Two") + "SELECT 1", "lower_case_with_underscores"),
        (head() + "SELECT 1\n-- in: other\n-- end", "thing: no statement other"),
        (head() + "SELECT 1\n-- in: thing\n-- in: thing\n-- end", "begins within another"),
        (head() + "SELECT 1\n-- end", "a passage ends that has not begun"),
        (head() + "SELECT 1\n-- in: thing", "a passage has no end"),
        (head("one, two", "a int, b int") + "SELECT %(a)s", "parameters never used b"),
        ("SELECT 1;\n" + head() + "SELECT 1", "SQL before the first"),
        ("SELECT 1;\n", "SQL before the first"),
    ],
)
def test_a_statement_that_breaks_a_rule_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ProgrammerError, match=rf"things\.sql: .*{complaint}"):
        parse(text)


def test_a_name_stands_for_one_statement_across_files(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text(head("same") + "SELECT 1")
    (tmp_path / "b.sql").write_text(head("other") + "SELECT 2")
    (tmp_path / "notes.md").write_text("not SQL")
    assert list(load_statements(tmp_path)) == ["same", "other"]
    (tmp_path / "b.sql").write_text(head("same") + "SELECT 2")
    with pytest.raises(ProgrammerError, match=r"b\.sql: same is defined twice"):
        load_statements(tmp_path)


def test_statements_load_from_inside_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "app.pex", "w") as archive:
        archive.writestr("sql/things.sql", head() + "SELECT 1")
    inside = zipfile.Path(tmp_path / "app.pex", at="sql/")
    assert load_statements(inside)["thing"].sql == "SELECT 1"
