"""Takes secrets out of what is about to be kept: texts, labels, JSON values.

A secret is known by the name it stands under (`password=…`, a label `api_key`) or by its shape (a
bearer token, a JWT, a provider's key, a PEM block, a password in a URL). In its place goes
`redacted:sha256:` and the first 16 hex digits of the SHA-256 of its UTF-8 form.

I1  Deterministic: equal secrets get equal stand-ins, at every door and on every node, so what was
    redacted is still hashed, compared and unique as before.
I2  Idempotent: what is redacted already stays as it is.
I3  Time is linear in the text. (I2 and I3 hold but for a `shape` of the operator's own.)
I4  A text without a secret comes back as the same object.

A *name* is secret when one of its words is (`dbPassword`, `X-Api-Key`) and its last word does not
say that the value is only about the secret (`token_count`, `secretName`).

Not here: where it is applied (the doors, the command line's logs), what is deliberately left alone
(`docs/decisions/0013-redaction-and-limits.md`).
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import attrs

from jobengine.domain.pem_lines import key_blocks

__all__ = ["Redactor", "stand_in"]

_PREFIX: Final = "redacted:sha256:"
_DIGITS: Final = 16
_SHORT: Final = 16
"""No shape fits into fewer characters unless it holds one of `=`, `:` and a space."""

_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORD: Final = re.compile(
    r"accesskey|authorization|bearer|cookie|credentials?|jwt|passwords|pwd|secretkey|secrets"
    r"|sessionid|[a-z]*(?:apikey|passphrase|passwd|password|privatekey|secret|token)"
)
_SECRET_PAIR: Final = re.compile(
    r"(?:access|account|api|auth|client|encryption|master|private|secret|session|shared|signing"
    r"|ssh) key|(?:db|smtp|user) pass|session id|(?:amz|goog) signature"
)
_ABOUT_ONE: Final = re.compile(
    r"age|at|bytes|count|digest|endpoint|expires|expiry|file|id|kind|length|limit|max|min|name"
    r"|path|policy|ref|status|ttl|type|uri|url|used|version"
)
_STEMS: Final = (
    "key",
    "pass",
    "token",
    "secret",
    "auth",
    "cookie",
    "sess",
    "cred",
    "pwd",
    "jwt",
    "bearer",
    "signature",
)
"""Every secret name holds one of these, in lower case."""

_HINTS: Final = ("=", ":", "earer", "EARER", "eyJ", "KIA", "SIA", "AIza", "--")
_HINTS_BEFORE_DASH: Final = ("glpat-", "xox", "sk-", "rk-", "pypi-")
_HINTS_BEFORE_LINE: Final = (
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "ghr_",
    "_pat_",
    "k_live",
    "k_test",
    "npm_",
)
"""Whatever holds a secret that `Redactor.text` knows holds one of these."""

_FULL_LINE: Final = re.compile(r"\s*(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])[A-Za-z0-9+/]{64}\s*")
"""A line of PEM that is not its block's last (RFC 7468, §2); a digest in hex has but one case."""

_STAND_IN: Final = re.compile(rf"{_PREFIX}[0-9a-f]{{{_DIGITS}}}")
_SHAPES: Final = re.compile(
    r"-----BEGIN (?!CERTIFICATE|PUBLIC)[A-Z0-9 ]{1,40}-----.*?"
    r"(?:-----END [A-Z0-9 ]{1,40}-----|\Z)"
    r"|(?<![\w-])eyJ[\w-]{5,}+\.[\w-]{5,}+(?:\.[\w-]*+){1,3}"
    r"|(?<![A-Za-z0-9])(?:"
    r"A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])"
    r"|AIza[\w-]{35}"
    r"|gh[opsur]_[A-Za-z0-9]{20,}+|github_pat_\w{20,}+|glpat-[\w-]{20,}+"
    r"|xox[a-z]-[A-Za-z0-9-]{10,}+"
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}+|sk-[\w-]{20,}+"
    r"|npm_[A-Za-z0-9]{36}|pypi-[\w-]{16,}+)",
    re.DOTALL,
)
_BEARER: Final = re.compile(
    r"(?<![A-Za-z0-9])(?P<kept>bearer[ \t]{1,4})(?P<secret>[\w.~+/-][\w.~+/:-]{5,}+=*+)",
    re.IGNORECASE,
)
_COOKIE: Final = re.compile(
    r"(?<![\w-])(?P<kept>(?:set-)?cookie[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?)"
    r"(?P<secret>[^\s\"'][^\r\n\"']*+)",
    re.IGNORECASE,
)
_IN_URL: Final = re.compile(
    r"(?P<kept>://[^\s/?#@:\"'<>]*+:)(?P<secret>[^\s/\"'<>@]+(?:@[^\s/\"'<>@]+)*)(?=@)"
)
_NAME: Final = re.compile(
    r"(?<![\w.-])(?:(?P<name>[\w.-]{1,128}+)\\?[\"']?[ \t]{0,4}(?:=>|[=:])[ \t]{0,4}"
    r"|(?P<flag>--[\w-]{1,128}+)[ \t]{1,4})"
    r"(?:(?i:basic|bearer|digest|negotiate|token)[ \t]{1,4})?"
)
_VALUE: Final = re.compile(
    r"(?:\\?\"(?P<double>[^\"\\\r\n]++)|\\?'(?P<single>[^'\\\r\n]++)"
    r"|(?P<bare>[^\s\"',;&(){}\[\]\\]++))"
)


def stand_in(secret: str) -> str:
    """What stands in the place of a secret; a stand-in stands for itself."""
    if _STAND_IN.fullmatch(secret):
        return secret
    digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
    return _PREFIX + digest[:_DIGITS]


def _may_hold_secret(text: str) -> bool:
    for hint in _HINTS:
        if hint in text:
            return True
    if "-" in text:
        for hint in _HINTS_BEFORE_DASH:
            if hint in text:
                return True
    if "_" in text:
        for hint in _HINTS_BEFORE_LINE:
            if hint in text:
                return True
    return False


@lru_cache(maxsize=4_096)
def _is_secret(name: str) -> bool:
    lower = name.lower()
    for stem in _STEMS:
        if stem in lower:
            break
    else:
        return False
    words = [word.lower() for word in _WORDS.findall(name)]
    while words and words[-1].isdigit():
        words.pop()
    if not words:
        return False
    pairs = [f"{one} {next_}" for one, next_ in pairwise(words)]
    if any(map(_SECRET_PAIR.fullmatch, pairs[-1:])):
        return True
    if _ABOUT_ONE.fullmatch(words[-1]):
        return False
    return any(map(_SECRET_WORD.fullmatch, words)) or any(map(_SECRET_PAIR.fullmatch, pairs))


@lru_cache(maxsize=4_096)
def _is_plain_name(name: str) -> bool:
    return not _is_secret(name) and not _may_hold_secret(name)


def _plain(name: str) -> str:
    return re.sub(r"[-_.\s]", "", name).lower()


def _plain_all(names: Iterable[str]) -> frozenset[str]:
    return frozenset(map(_plain, names))


@attrs.frozen(kw_only=True)
class Redactor:
    """`names`: more secret names, compared without case, `-`, `_` and `.`. `shape`: one more
    pattern whose whole match is a secret. `payloads`: whether payloads and results are searched."""

    names: frozenset[str] = attrs.field(default=frozenset(), converter=_plain_all)
    shape: re.Pattern[str] | None = None
    payloads: bool = False

    def text(self, text: str) -> str:
        """The text with every secret in it replaced."""
        if self.shape is None:
            if len(text) < _SHORT and "=" not in text and ":" not in text and " " not in text:
                return text
            if not _may_hold_secret(text):
                return text
            found = text
        else:
            found = self.shape.sub(_whole, text)
        found = _SHAPES.sub(_whole, found)
        found = _IN_URL.sub(_after_kept, found)
        found = _COOKIE.sub(_after_kept, found)
        found = _BEARER.sub(_after_kept, found)
        found = self._named(found)
        return text if found == text else found

    def lines(self, lines: Sequence[str]) -> list[str]:
        """The lines of one batch, in order, with every secret in them replaced.

        A PEM block over several lines is one secret, and all its lines become its stand-in. Of a
        block that begins or ends in another batch, what has the look of its lines is taken.
        """
        found = list(lines)
        for first, start, last, end in key_blocks(lines):
            inner = [lines[n] for n in range(first, last + 1)]
            inner[-1], rest = inner[-1][:end], inner[-1][end:]
            kept, inner[0] = inner[0][:start], inner[0][start:]
            block = stand_in("\n".join(inner))
            found[first : last + 1] = [block] * len(inner)
            found[first] = kept + block
            found[last] += rest
        return [stand_in(line) if _FULL_LINE.fullmatch(line) else self.text(line) for line in found]

    def is_secret(self, name: str) -> bool:
        """Whether what stands under this name is taken for a secret."""
        return _is_secret(name) or (bool(self.names) and _plain(name) in self.names)

    def under(self, name: str, text: str) -> str:
        """A text that stands under a name."""
        return stand_in(text) if text and self.is_secret(name) else self.text(text)

    def labels(self, labels: dict[str, str]) -> dict[str, str]:
        """Labels with secrets replaced; the same object when there are none."""
        asked_for_more = self.names or self.shape
        for name, value in labels.items():
            if asked_for_more or not _is_plain_name(name) or self.text(value) is not value:
                return {self.text(name): self.under(name, value) for name, value in labels.items()}
        return labels

    def value(self, value: Any, name: str = "") -> Any:
        """A JSON value that stands under a name. Whatever is below a secret name is one, numbers
        included; `true`, `false` and `null` tell nothing and stay."""
        return self._value(value, bool(name) and self.is_secret(name))

    def _value(self, value: Any, secret: bool) -> Any:
        match value:
            case str():
                return stand_in(value) if secret and value else self.text(value)
            case bool() | None:
                return value
            case int() | float():
                return stand_in(str(value)) if secret else value
            case dict():
                return {
                    self.text(name) if isinstance(name, str) else name: self._value(
                        one, secret or (isinstance(name, str) and self.is_secret(name))
                    )
                    for name, one in value.items()
                }
            case list() | tuple():
                return [self._value(one, secret) for one in value]
        return value

    def _named(self, text: str) -> str:
        """The text without the values of secret names; what follows another name is searched."""
        parts: list[str] = []
        done = 0
        for match in _NAME.finditer(text):
            if match.start() < done or not self.is_secret(match["name"] or match["flag"]):
                continue
            value = _VALUE.match(text, match.end())
            if value is not None:
                assert value.lastgroup is not None
                parts += (
                    text[done : value.start(value.lastgroup)],
                    stand_in(value[value.lastgroup]),
                )
                done = value.end()
        return text if not parts else "".join((*parts, text[done:]))


def _whole(match: re.Match[str]) -> str:
    return stand_in(match[0]) if match[0] else ""


def _after_kept(match: re.Match[str]) -> str:
    return match["kept"] + stand_in(match["secret"])
