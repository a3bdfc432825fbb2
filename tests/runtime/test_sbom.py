"""Bills of materials: package URLs, and documents that CycloneDX's own schema accepts."""

from __future__ import annotations

import dataclasses
import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st

from runtime.packages import Inventory, Package, inventory
from runtime.sbom import SPEC_VERSIONS, Distribution, SpecVersion, bill_of_materials, distribution_of, package_url
from tests.runtime.test_package_kinds import header, rpmdb
from tests.runtime.test_packages import snapshot
from tests.support.values import Spec, link
from vcs.model import CommitId, RootId
from vcs.snapshot import CommitInfo

_DEBIAN = Distribution("debian", "12")
_COMMIT = CommitInfo(CommitId("1" * 40), RootId(b"\1" * 32), (), "m", "Ada", "ada@example.org", 1_700_000_000, 60)


def valid(text: str, version: SpecVersion) -> None:
    schema = {"1.5": SchemaVersion.V1_5, "1.6": SchemaVersion.V1_6}[version]
    assert JsonStrictValidator(schema).validate_str(text) is None


@pytest.mark.parametrize(
    ("package", "url"),
    [
        (
            Package("deb", "libc6", "2.36-9+deb12u4", "amd64"),
            "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12",
        ),
        (
            Package("rpm", "bash", "1:5.2-3.fc40", "x86_64"),
            "pkg:rpm/debian/bash@5.2-3.fc40?arch=x86_64&distro=debian-12&epoch=1",
        ),
        (Package("pypi", "zope-interface", "5.0", place="/x"), "pkg:pypi/zope-interface@5.0"),
        (Package("npm", "@types/node", "20.1.0", place="/x"), "pkg:npm/%40types/node@20.1.0"),
        (Package("npm", "left-pad", "1.3.0", place="/x"), "pkg:npm/left-pad@1.3.0"),
        (Package("gem", "nokogiri", "1.15.4", "x86_64-linux", "/x"), "pkg:gem/nokogiri@1.15.4?platform=x86_64-linux"),
        (Package("deb", "", "1"), None),
    ],
)
def test_package_urls(package: Package, url: str | None) -> None:
    assert package_url(package, _DEBIAN) == url


def test_without_os_release() -> None:
    assert package_url(Package("apk", "musl", "1"), Distribution()) == "pkg:apk/alpine/musl@1"
    assert package_url(Package("rpm", "bash", "5"), Distribution()) == "pkg:rpm/bash@5"


def test_os_release() -> None:
    said = b'# a comment\nPRETTY_NAME="Debian GNU/Linux 12"\nID=\'debian\'\nVERSION_ID="12"\nBAD="open\n'
    usr: Spec = {"lib": {"os-release": said}}
    assert distribution_of(snapshot({"etc": {"os-release": link("../usr/lib/os-release")}, "usr": usr})) == _DEBIAN
    assert distribution_of(snapshot({"usr": usr})) == _DEBIAN
    assert distribution_of(snapshot({"etc": {"os-release": b"ID=\xff\xfe\nVERSION_ID=$(id)\n"}})) == Distribution()
    assert distribution_of(snapshot({})) == Distribution()


@pytest.mark.parametrize("version", SPEC_VERSIONS)
def test_a_document_of_all_kinds(version: SpecVersion) -> None:
    manifest = b'{"name":"@types/node","version":"20"}'
    spec: Spec = {
        "etc": {"os-release": b"ID=fedora\nVERSION_ID=40\n"},
        "lib": {"apk": {"db": {"installed": b"P:musl\nV:1\nI:9\n\n"}}},
        "opt": {
            "a": {"x-1.dist-info": {}, "node_modules": {"@types": {"node": {"package.json": manifest}}}},
            "b": {"x-1.dist-info": {}, "gems": {"specifications": {"rake-13.0.gemspec": b""}}},
        },
        "var": {
            "lib": {
                "dpkg": {"status": b"Package: a\nVersion: 1\n\nrubbish\n"},
                "rpm": {"rpmdb.sqlite": rpmdb(blobs=[header("bash", "5", release="1", epoch=2, arch="x86_64")])},
            }
        },
    }
    root = snapshot(spec)
    document = bill_of_materials("main", _COMMIT, root, inventory(root), version)
    text = json.dumps(document)
    valid(text, version)
    assert text == json.dumps(bill_of_materials("main", _COMMIT, root, inventory(root), version))
    references = [component["bom-ref"] for component in document["components"]]
    assert references == [
        "operating-system",
        "pkg:apk/fedora/musl@1?distro=fedora-40",
        "pkg:deb/fedora/a@1?distro=fedora-40",
        "pkg:gem/rake@13.0",
        "pkg:npm/%40types/node@20",
        "pkg:pypi/x@1",
        "pkg:pypi/x@1 (2)",
        "pkg:rpm/fedora/bash@5-1?arch=x86_64&distro=fedora-40&epoch=2",
    ]
    assert document["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert "serialNumber" not in document
    assert document["metadata"]["properties"][1]["name"] == "treering:not-understood"


_words = st.text(max_size=12)
_packages = st.builds(
    Package, st.sampled_from(["deb", "apk", "rpm", "pypi", "npm", "gem"]), _words, _words, _words, _words
)


@given(st.frozensets(_packages, max_size=6))
def test_names_may_be_anything(found: frozenset[Package]) -> None:
    document = bill_of_materials("x", _COMMIT, snapshot({}), Inventory(found, ()))
    references = [component["bom-ref"] for component in document["components"]]
    assert len(references) == len(set(references)) == len(found)
    valid(json.dumps(document), "1.6")


def test_a_time_that_is_none() -> None:
    for time in (-(10**18), 10**18):
        commit = dataclasses.replace(_COMMIT, time=time)
        valid(json.dumps(bill_of_materials("x", commit, snapshot({}), Inventory(frozenset(), ()))), "1.6")
