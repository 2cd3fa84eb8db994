"""What counts as a secret, what stands in its place, and what is left alone."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, overload

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobengine.domain.redaction import Redactor, stand_in

REDACTOR = Redactor()
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA\nabc=\n-----END EC PRIVATE KEY-----"
GITHUB = "ghp_" + "a1B2" * 9
SLACK = "xoxb-123456789012-abcdefABCDEF"
AWS = "AKIAIOSFODNN7EXAMPLE"


def test_a_stand_in_is_the_digest_of_the_secret() -> None:
    digest = hashlib.sha256(b"hunter2").hexdigest()
    assert stand_in("hunter2") == f"redacted:sha256:{digest[:16]}"
    assert stand_in(stand_in("hunter2")) == stand_in("hunter2")
    assert stand_in("redacted:sha256:hunter2") != "redacted:sha256:hunter2"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password=hunter2", "hunter2"),
        ("login failed: DB_PASSWORD = hunter2, user=bob", "hunter2"),
        ("url: password=hunter2", "hunter2"),
        ('{"apiKey": "k 1", "n": 1}', "k 1"),
        ("{'client_secret': 'k 1'}", "k 1"),
        (r"body was {\"token\": \"t-1\"}", "t-1"),
        ("scan --token t-1 --verbose", "t-1"),
        ("scan --password=hunter2", "hunter2"),
        ("x-api-key: k1", "k1"),
        ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("authorization: Bearer abc.def", "abc.def"),
        ("sent Bearer 0123456789 and got 401", "0123456789"),
        ("Cookie: sid=1; theme=dark", "sid=1; theme=dark"),
        ("postgresql://bob:hunter2@db.internal/jobs", "hunter2"),
        ("https://bob:p@ss@host/x", "p@ss"),
        ("GET /x?access_token=t-1&page=2", "t-1"),
        ("s3 https://b/x?X-Amz-Signature=ab12&e=1", "ab12"),
        (f"got {JWT}.", JWT + "."),
        (f"key {AWS} is disabled", AWS),
        (f"push with {GITHUB}", GITHUB),
        (f"hook {SLACK}", SLACK),
        (f"cannot load\n{PEM}\nof bob", PEM),
        ("-----BEGIN PRIVATE KEY-----\ncut off", "-----BEGIN PRIVATE KEY-----\ncut off"),
    ],
)
def test_a_secret_in_a_text_is_replaced_and_the_rest_stays(text: str, secret: str) -> None:
    assert secret in text
    assert REDACTOR.text(text) == text.replace(secret, stand_in(secret))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "prod",
        "eu-west-1",
        "01890a5d-ac96-774b-bcce-b302099a8057",
        "the cookie jar is empty",
        "Unexpected token: }",
        "max_tokens=4096, token_count=7, secretName=db",
        "authRef=vault:db/main",
        "password=",
        "https://example.com:8080/a@b?page=2",
        "12:30:45 job took 3.5 s (key=sbom-17)",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    ],
)
def test_a_text_without_a_secret_is_the_same_object(text: str) -> None:
    assert REDACTOR.text(text) is text


@pytest.mark.parametrize(
    "name",
    ["password", "Password", "db_password", "PGPASSWORD", "password2", "SMTP_PASS", "token",
     "authToken", "accessToken", "api_key", "X-Api-Key", "APIKey", "apikey", "privateKey",
     "aws.secret-access_key", "client_secret", "set-cookie", "Authorization", "sessionId"],
)  # fmt: skip
def test_a_secret_name(name: str) -> None:
    assert REDACTOR.is_secret(name)
    assert REDACTOR.labels({name: "v"}) == {name: stand_in("v")}


@pytest.mark.parametrize(
    "name",
    ["key", "author", "passenger", "compass", "tokenizer", "max_tokens", "token_count", "auth",
     "secretName", "password_file", "authRef", "cookie_count", "monkey", "signature", "env"],
)  # fmt: skip
def test_a_name_that_is_none(name: str) -> None:
    assert not REDACTOR.is_secret(name)
    labels = {name: "v"}
    assert REDACTOR.labels(labels) is labels


def test_labels_lose_secrets_in_values_and_in_names() -> None:
    found = REDACTOR.labels({"env": "prod", "note": f"see {GITHUB}", GITHUB: "x"})
    assert found == {"env": "prod", "note": f"see {stand_in(GITHUB)}", stand_in(GITHUB): "x"}


def test_a_value_loses_all_that_stands_below_a_secret_name() -> None:
    value = {
        "url": "https://bob:hunter2@host/",
        "credentials": {"user": "bob", "pin": 1234, "on": True, "none": None},
        "items": [{"token": "t"}, 7, 1.5],
    }
    assert REDACTOR.value(value) == {
        "url": f"https://bob:{stand_in('hunter2')}@host/",
        "credentials": {
            "user": stand_in("bob"),
            "pin": stand_in("1234"),
            "on": True,
            "none": None,
        },
        "items": [{"token": stand_in("t")}, 7, 1.5],
    }


def test_an_operator_adds_names_and_a_shape() -> None:
    redactor = Redactor(names=frozenset({"Licence-Code"}), shape=re.compile(r"ACME-\d+"))
    assert redactor.text("licence_code=L1 for ACME-42") == (
        f"licence_code={stand_in('L1')} for {stand_in('ACME-42')}"
    )
    assert redactor.labels({"licenceCode": "L1"}) == {"licenceCode": stand_in("L1")}
    assert REDACTOR.text("licence_code=L1 for ACME-42") == "licence_code=L1 for ACME-42"


BODY = ["MHcCAQEEIA1b" + "aB3/" * 13, "Qm9i" * 16, "abc="]
KEY_LINES = ["-----BEGIN RSA PRIVATE KEY-----", *BODY, "-----END RSA PRIVATE KEY-----"]


def block(*lines: str) -> list[str]:
    return [stand_in("\n".join(lines))] * len(lines)


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (["a", *KEY_LINES, "b"], ["a", *block(*KEY_LINES), "b"]),
        ([*KEY_LINES, *KEY_LINES], [*block(*KEY_LINES), *block(*KEY_LINES)]),
        (["x", *KEY_LINES[:3], "cut off here"], ["x", *block(*KEY_LINES[:3]), "cut off here"]),
        (["job done", *KEY_LINES[3:], "b"], ["job done", *block(*KEY_LINES[3:]), "b"]),
        ([*KEY_LINES[:1]], block(KEY_LINES[0])),
        ([BODY[1], "b"], [stand_in(BODY[1]), "b"]),
        (["\n".join(KEY_LINES), "b"], [stand_in("\n".join(KEY_LINES)), "b"]),
        (
            [KEY_LINES[0], "Proc-Type: 4,ENCRYPTED", "", *KEY_LINES[1:]],
            block(KEY_LINES[0], "Proc-Type: 4,ENCRYPTED", "", *KEY_LINES[1:]),
        ),
        (
            [f"12:00 key={KEY_LINES[0]}", *BODY, f"{KEY_LINES[-1]} loaded"],
            [
                f"12:00 key={block(*KEY_LINES)[0]}",
                *block(*KEY_LINES)[:3],
                f"{block(*KEY_LINES)[0]} loaded",
            ],
        ),
    ],
)
def test_a_key_over_several_lines_of_a_batch_is_replaced_whole(
    lines: list[str], kept: list[str]
) -> None:
    found = REDACTOR.lines(lines)
    assert found == kept
    assert REDACTOR.lines(found) == found


@pytest.mark.parametrize(
    "lines",
    [
        ["-----BEGIN CERTIFICATE-----", "MIIB", "-----END CERTIFICATE-----"],
        ["----- phase 1 -----", "x", "----- phase 2 -----"],
        ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
        [],
    ],
)
def test_lines_without_a_key_stay(lines: list[str]) -> None:
    assert REDACTOR.lines(lines) == lines


def test_lines_lose_other_secrets_too() -> None:
    assert REDACTOR.lines(["a", "password=hunter2"]) == ["a", f"password={stand_in('hunter2')}"]


@given(
    st.lists(st.sampled_from([*KEY_LINES, "a line", "-----", ""]) | st.text(max_size=8)),
    st.lists(st.sampled_from(["before", ""])),
)
def test_no_line_of_a_whole_key_survives_whatever_is_around_it(
    around: list[str], before: list[str]
) -> None:
    found = REDACTOR.lines([*around, *before, *KEY_LINES, *around])
    assert len(found) == 2 * len(around) + len(before) + len(KEY_LINES)
    at = len(around) + len(before)
    assert not {*found[at : at + len(KEY_LINES)]} & {*KEY_LINES}
    assert REDACTOR.lines(found) == found


class CountedLines(Sequence[str]):
    """Counts how often any of them is read."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self.reads = 0

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        self.reads += 1 if isinstance(at, int) else len(self._lines[at])
        return self._lines[at]


@pytest.mark.parametrize(
    "unit",
    [
        [KEY_LINES[0], "x", KEY_LINES[-1], *BODY[:1] * 8, "x"],
        [KEY_LINES[0], *BODY[:1] * 8],
        [*BODY[:1] * 8, KEY_LINES[-1]],
        [KEY_LINES[-1], KEY_LINES[0]],
        [f"key: {KEY_LINES[-1]}"],
        [f"key: {KEY_LINES[0]}"],
    ],
)
def test_each_line_of_a_batch_is_read_a_few_times_however_many_there_are(unit: list[str]) -> None:
    for repeated in (10, 300):
        lines = CountedLines(unit * repeated)
        REDACTOR.lines(lines)
        assert lines.reads <= 5 * len(lines)


TEXTS = st.lists(
    st.sampled_from(
        [*"=:\"' /@-_.;&\n", "--", "://", "password", "token", "Bearer ", "Cookie: ", "x", "s3cr3t",
         "Authorization: ", "Basic ", JWT, AWS, "eyJ", "-----BEGIN A-----", "redacted:sha256:"]
    )
    | st.text(max_size=4),
    max_size=25,
).map("".join)  # fmt: skip


@given(TEXTS)
@example("token: redacted:sha256:0123456789abcdef")
@example("Bearer :0")
def test_what_is_redacted_stays_as_it_is(text: str) -> None:
    once = REDACTOR.text(text)
    assert REDACTOR.text(once) == once


@given(st.dictionaries(st.sampled_from(["a", "token", "n"]), TEXTS | st.integers(), max_size=4))
def test_redaction_of_values_is_idempotent_and_keeps_their_shape(value: dict[str, Any]) -> None:
    once = REDACTOR.value(value)
    assert REDACTOR.value(once) == once
    assert once.keys() == value.keys()


@given(TEXTS, st.from_regex(r"[A-Za-z0-9]{8,40}", fullmatch=True))
def test_a_password_never_survives(around: str, password: str) -> None:
    clean = f"{around} password={password} {around}"
    kept = REDACTOR.text(clean)
    assert f"password={password}" not in kept


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit",
    ["token", "a_", "a:", "://", "://a:", "@", "eyJ", "-----BEGIN A-----", "password=", "bearer ",
     "--a ", "Cookie:", "x", "eyJaaaaaa.", "=", " ", "token:token "],
)  # fmt: skip
def test_a_long_text_is_searched_to_its_end_whatever_it_repeats(unit: str) -> None:
    """Well under a second, for time is linear in the text; were it quadratic, many minutes."""
    text = unit * (600_000 // len(unit))
    assert REDACTOR.text(text)
