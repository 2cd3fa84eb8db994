"""The bill of materials of this machine: Python and Debian packages, as CycloneDX 1.6.

Components are found by reading (`importlib.metadata`, dpkg's status file); nothing found is
imported or executed.

Invariants:
    I1  A component is its package URL; installed in several places, it has several occurrences.
    I2  The document is a function of what is installed and of `created_at`: built twice, it has the
        same bytes.

Not here: licences and hashes of the components, and what Debian packages depend on.
Sources: CycloneDX 1.6 (ECMA-424), the package URL types `pypi` and `deb`, PEP 503, deb822(5).
"""

import importlib.metadata
import json
import platform
import sys
import sysconfig
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component as BomComponent
from cyclonedx.model.component import ComponentType
from cyclonedx.model.component_evidence import ComponentEvidence, Occurrence
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from packageurl import PackageURL
from packaging.utils import canonicalize_name

DPKG_STATUS = Path("/var/lib/dpkg/status")
OS_RELEASE = Path("/etc/os-release")
MIME = "application/vnd.cyclonedx+json"

_SERIALS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:jobengine:demo:sbom")


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """An installed package. `purl` identifies it (I1); `locations` is sorted."""

    purl: str
    ecosystem: str
    name: str
    version: str
    locations: tuple[str, ...]


class InvalidBomError(ValueError):
    """A document is not valid CycloneDX 1.6 JSON."""


def python_components(search_paths: Iterable[Path]) -> tuple[Component, ...]:
    """The distributions found on `search_paths`, ordered by package URL. A missing path is empty.

    A directory with broken metadata (no name or version) is left out: it has no package URL.
    """
    found: dict[tuple[str, str], set[str]] = {}
    for path in search_paths:
        for distribution in importlib.metadata.distributions(path=[str(path)]):
            name, version = distribution.metadata["Name"], distribution.metadata["Version"]
            if name and version:
                found.setdefault((canonicalize_name(name), version), set()).add(str(path))
    components = [
        Component(
            purl=PackageURL("pypi", None, name, version).to_string(),
            ecosystem="pypi",
            name=name,
            version=version,
            locations=tuple(sorted(locations)),
        )
        for (name, version), locations in found.items()
    ]
    return _ordered(components)


def installed_python_paths() -> tuple[Path, ...]:
    """Where this interpreter, and the one its virtual environment came from, keep distributions."""
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    candidates = [*sys.path, sysconfig.get_path("purelib", vars=base)]
    return tuple(dict.fromkeys(Path(path).resolve() for path in candidates if path))


def debian_components(status: Path, os_release: Path) -> tuple[Component, ...]:
    """The installed packages in a dpkg status file, ordered by package URL; none without a file."""
    if not status.exists():
        return ()
    system = _os_release(os_release)
    vendor = system.get("ID", "debian")
    distro = "-".join(filter(None, (vendor, system.get("VERSION_ID", ""))))
    components = []
    for stanza in _stanzas(status.read_text(encoding="utf-8", errors="replace")):
        if stanza.get("Status", "").split()[-1:] != ["installed"]:
            continue
        qualifiers = {"arch": stanza["Architecture"], "distro": distro}
        name, version = stanza["Package"], stanza["Version"]
        components.append(
            Component(
                purl=PackageURL("deb", vendor, name, version, qualifiers).to_string(),
                ecosystem="deb",
                name=name,
                version=version,
                locations=(str(status),),
            )
        )
    return _ordered(components)


def installed_components() -> tuple[Component, ...]:
    """Everything this machine has: its Python distributions and its Debian packages."""
    python = python_components(installed_python_paths())
    return _ordered([*python, *debian_components(DPKG_STATUS, OS_RELEASE)])


def build(components: Iterable[Component], *, created_at: int) -> bytes:
    """A CycloneDX 1.6 JSON document (I2), not validated. `created_at` is in microseconds UTC."""
    listed = sorted(components, key=lambda component: component.purl)
    host = BomComponent(
        name=platform.node() or "localhost", type=ComponentType.DEVICE, bom_ref="machine"
    )
    bom = Bom(serial_number=uuid.uuid5(_SERIALS, "\n".join([str(created_at), *_facts(listed)])))
    bom.metadata.timestamp = datetime.fromtimestamp(created_at // 1_000_000, UTC)
    bom.metadata.component = host
    entries = [_entry(component) for component in listed]
    bom.components.update(entries)
    bom.register_dependency(host, entries)
    return JsonV1Dot6(bom).output_as_string(indent=2).encode()


def validate(document: bytes) -> None:
    """Check against the published CycloneDX 1.6 schema. Raises `InvalidBomError`, with a reason."""
    # It builds the grammars of all formats of a schema, which takes seconds.
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.decode())
    if error is not None:
        raise InvalidBomError(str(error))


def read(document: bytes) -> tuple[Component, ...]:
    """The components of a document that `build` wrote, ordered by package URL."""
    listed = json.loads(document).get("components", ())
    return _ordered(
        Component(
            purl=entry["purl"],
            ecosystem=PackageURL.from_string(entry["purl"]).type,
            name=entry["name"],
            version=entry["version"],
            locations=tuple(
                sorted(place["location"] for place in entry["evidence"]["occurrences"])
            ),
        )
        for entry in listed
    )


def _entry(component: Component) -> BomComponent:
    return BomComponent(
        name=component.name,
        version=component.version,
        type=ComponentType.LIBRARY,
        bom_ref=component.purl,
        purl=PackageURL.from_string(component.purl),
        evidence=ComponentEvidence(
            occurrences=[
                Occurrence(bom_ref=f"{component.purl}#{number}", location=location)
                for number, location in enumerate(component.locations)
            ]
        ),
        properties=[Property(name="jobengine:ecosystem", value=component.ecosystem)],
    )


def _facts(components: Iterable[Component]) -> Iterator[str]:
    for component in components:
        yield "\t".join((component.purl, *component.locations))


def _ordered(components: Iterable[Component]) -> tuple[Component, ...]:
    return tuple(sorted(components, key=lambda component: component.purl))


def _stanzas(text: str) -> Iterator[Mapping[str, str]]:
    for block in text.split("\n\n"):
        fields = {}
        for line in block.splitlines():
            if line and not line[0].isspace():
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        if "Package" in fields:
            yield fields


def _os_release(path: Path) -> Mapping[str, str]:
    if not path.exists():
        return {}
    pairs = (line.partition("=") for line in path.read_text().splitlines() if "=" in line)
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
