"""diff --packages, show --packages, status --packages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.support.busybox_root import make_busybox_root

_BASE = "Package: base\nVersion: 1\nArchitecture: amd64\nInstalled-Size: 100\n"
_TOOL = "\nPackage: tool\nVersion: 2:1.0\nArchitecture: all\nInstalled-Size: 10\n"


@pytest.fixture
def distribution(cli: Cli, tmp_path: Path) -> Cli:
    """Two commits on `deb`: the second upgrades a package, installs another, and writes a file that is nobody's."""
    root = make_busybox_root(tmp_path / "root")
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    status = root / "var/lib/dpkg/status"
    status.write_text(_BASE)
    (info / "base.list").write_text("/etc/base.conf\n/etc/passwd\n")
    (root / "etc/base.conf").write_text("1")
    cli("import", str(root), "-b", "deb", "-m", "first")
    status.write_text(_BASE.replace("Version: 1", "Version: 2").replace("100", "90") + _TOOL)
    (info / "tool.list").write_text("/etc/tool.conf\n")
    (root / "etc/tool.conf").write_text("1")
    (root / "etc/base.conf").write_text("2")
    (root / "etc/odd\nname").write_text("?")
    cli("import", str(root), "-b", "deb", "-m", "second")
    return cli


def test_packages_that_differ(distribution: Cli) -> None:
    assert distribution.lines("diff", "--packages", "deb~1", "deb") == [
        "KIND   NAME   OLD VERSION   NEW VERSION     SIZE",
        "deb    base   1             2             -10 kB",
        "deb    tool   -             2:1.0         +10 kB",
    ]
    rows = distribution.json("diff", "--packages", "deb~1..deb")
    assert [(row["name"], row["status"], row["size_change"]) for row in rows] == [
        ("base", "upgraded", -10_240),
        ("tool", "added", 10_240),
    ]
    assert [row["status"] for row in distribution.json("diff", "--packages", "deb", "deb~1")] == [
        "downgraded",
        "removed",
    ]
    assert distribution.json("show", "--packages", "deb")["packages"] == rows
    assert "deb    tool" in distribution("show", "--packages", "deb").stdout
    assert distribution.json("show", "--packages", "deb~1")["packages"] is None


def test_changes_that_no_package_explains(distribution: Cli) -> None:
    lines = distribution.lines("diff", "--packages", "--unexplained", "deb~1", "deb")
    assert lines[-1].split(maxsplit=3) == ["unowned", "A", "-", '"/etc/odd\\nname"']
    *packages, file = map(
        json.loads, distribution.lines("diff", "--packages", "--unexplained", "--format=jsonl", "deb~1", "deb")
    )
    assert {row["type"] for row in packages} == {"package"}
    assert (file["type"], file["why"], file["status"], file["path"]) == ("file", "unowned", "A", "/etc/odd\nname")


def test_exit_code(distribution: Cli) -> None:
    distribution("diff", "--packages", "--exit-code", "deb~1", "deb", code=1)
    distribution("diff", "--packages", "--exit-code", "main", "main~1")
    distribution("diff", "--packages", "--unexplained", "--exit-code", "main", "main~1", code=1)


@pytest.mark.parametrize(
    "options", [("--unexplained",), ("--packages", "--stat"), ("--packages", "-z"), ("--packages", "--", "/etc")]
)
def test_options_that_do_not_go_together(cli: Cli, options: tuple[str, ...]) -> None:
    flags = [option for option in options if option.startswith("-") and option != "--"]
    rest = options[len(flags) :]
    cli("diff", *flags, "main~1", "main", *rest, code=2)


def test_a_damaged_database_is_told(distribution: Cli, tmp_path: Path) -> None:
    (tmp_path / "root/var/lib/dpkg/status").write_bytes(_BASE.encode() + b"\n\0\xff rubbish\n")
    distribution("import", str(tmp_path / "root"), "-b", "deb", "-m", "damaged")
    result = distribution("diff", "--packages", "deb~1", "deb")
    assert "warning: /var/lib/dpkg/status: paragraphs without" in result.stderr
    assert "tool" in result.stdout


def test_what_a_container_installed(box: Cli, distribution: Cli) -> None:
    """Of a container that is only looked at nothing is held in memory but what turns out to be wanted."""
    text = "\\nPackage: big\\nVersion: 3\\nInstalled-Size: 1\\n\\n"
    script = f"printf '{text}' >>/var/lib/dpkg/status; echo x >/etc/base.conf"
    assert box.process("run", "--name", "c", "--network", "none", "deb", "--", "sh", "-c", script).returncode == 0
    result = box("status", "--packages", "c")
    assert [line.split()[:4] for line in result.stdout.splitlines()[1:]] == [["deb", "big", "-", "3"]]
    assert "c: 1 package changed: 1 added" in result.stderr
    rows = box.json("diff", "--packages", "--unexplained", "c")
    assert [(row["type"], row.get("package") or row["name"]) for row in rows] == [("package", "big"), ("file", "base")]
    box("status", "--packages", "--exit-code", "c", code=1)
    box("status", "--packages", "-z", "c", code=2)


def test_a_bill_of_materials(distribution: Cli, tmp_path: Path) -> None:
    result = distribution("sbom", "deb")
    document = json.loads(result.stdout)
    assert [component["purl"] for component in document["components"]] == [
        "pkg:deb/debian/base@2?arch=amd64",
        "pkg:deb/debian/tool@2:1.0?arch=all",
    ]
    assert document["metadata"]["component"]["version"] == distribution.json("show", "deb")["commit"]
    assert distribution("sbom", "deb").stdout == result.stdout
    first, second = (json.loads(distribution("sbom", "--serial-number", "deb").stdout)["serialNumber"] for _ in "12")
    assert first.startswith("urn:uuid:")
    assert first != second
    assert json.loads(distribution("sbom", "--spec-version", "1.5", "deb").stdout)["specVersion"] == "1.5"
    assert "warning: no package manager" in distribution("sbom", "main").stderr
    (tmp_path / "root/var/lib/dpkg/status").write_bytes(b"rubbish\n")
    distribution("import", str(tmp_path / "root"), "-b", "deb", "-m", "damaged")
    assert "paragraphs without" in distribution("sbom", "deb").stderr


def test_the_packages_of_each_commit(distribution: Cli) -> None:
    plain = distribution.lines("log", "deb")
    lines = distribution.lines("log", "--packages", "deb")
    at = next(number for number, line in enumerate(lines) if line == "    second")
    assert lines[at + 2].startswith("    Source: ")
    assert lines[at + 3 : at + 7] == ["", "    ~ deb base 1 -> 2", "    + deb tool 2:1.0", ""]
    assert [line for line in lines if not line.startswith(("    ~", "    +"))] != plain, "an empty line before them"
    short = distribution.lines("log", "--oneline", "--packages", "deb")
    assert short[1:3] == ["    ~ deb base 1 -> 2", "    + deb tool 2:1.0"]
    assert short[3].endswith(" first")
    assert len(short) == 4, "of a first commit, nothing is told"
    second, first = distribution.json("log", "--packages", "deb")
    assert second["packages"] == distribution.json("diff", "--packages", "deb~1", "deb")
    assert first["packages"] is None
    assert distribution.json("log", "--packages", "-n1", "main")[0]["packages"] == []
    assert "packages" not in distribution.json("log", "-n1", "deb")[0]
    distribution("log", "--graph", "--packages", "deb", code=2)


def test_a_damaged_database_is_told_once_by_log(distribution: Cli, tmp_path: Path) -> None:
    for rubbish in (b"rubbish\n", b"other\n"):
        (tmp_path / "root/var/lib/dpkg/status").write_bytes(_BASE.encode() + b"\n\0\xff " + rubbish)
        distribution("import", str(tmp_path / "root"), "-b", "deb", "-m", "damaged")
    result = distribution("log", "--packages", "--oneline", "deb")
    assert result.stderr.count("warning: /var/lib/dpkg/status: paragraphs without") == 1
