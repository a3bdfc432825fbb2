"""A store with a little history, and two ways to run commands on it: in this process, and as a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fusefs import mounting
from fusefs.client import Service
from runtime.cli.program import program
from tests.support.burner import compile_burner
from tests.support.busybox_root import make_busybox_root
from tests.support.containers import eventually
from vcs.errors import Conflict

PROJECT = Path(__file__).parents[2]
AUTHOR = {"TREERING_AUTHOR_NAME": "Ada Tester", "TREERING_AUTHOR_EMAIL": "ada@example.org"}

Command = list[str]


def environment(store: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a command sees: nothing of the developer's configuration."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PROJECT),
        "PYTHONDONTWRITEBYTECODE": os.environ.get("PYTHONDONTWRITEBYTECODE", ""),
        "HOME": str(store.parent),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "TREERING_STORE": str(store),
        "TREERING_FORK_SERVER": "0",
        "XDG_RUNTIME_DIR": str(store.parent),
        **AUTHOR,
        **(more or {}),
    }


@dataclass(frozen=True)
class Cli:
    """Commands on one store."""

    store: Path

    def __call__(self, *arguments: str, code: int = 0, **settings: Any) -> Result:
        """Run a command in this process. Fails unless it exits with `code`."""
        more = {"SUDO_UID": "", **settings.pop("env", {})}
        result = CliRunner(env=environment(self.store, more)).invoke(program, arguments, **settings)
        assert result.exit_code == code, f"{arguments}: {result.exit_code}\n{result.output}\n{result.exception!r}"
        return result

    def json(self, *arguments: str, code: int = 0, **settings: Any) -> Any:
        """What a command prints with --format json, read."""
        verb, *rest = arguments
        return json.loads(self(verb, "--format", "json", *rest, code=code, **settings).stdout)

    def lines(self, *arguments: str) -> list[str]:
        """The lines that a command prints."""
        return self(*arguments).stdout.splitlines()

    def error(self, *arguments: str, code: int = 125, **settings: Any) -> dict[str, Any]:
        """A command's error, as --format json tells it."""
        result = self("--format", "json", *arguments, code=code, **settings)
        found: dict[str, Any] = json.loads(result.stderr.splitlines()[-1])["error"]
        assert found["exit_code"] == code
        return found

    @property
    def command(self) -> Command:
        return [sys.executable, "-P", "-m", "runtime.cli"]

    def process(self, *arguments: str, env: Mapping[str, str] | None = None, **settings: Any) -> Any:
        """Run a command as a process of its own, to its end."""
        settings.setdefault("capture_output", "stdout" not in settings)
        return subprocess.run(
            [*self.command, *arguments], env=environment(self.store, env), timeout=120, check=False, **settings
        )

    def start(self, *arguments: str, **settings: Any) -> subprocess.Popen[bytes]:
        """Start a command as a process of its own."""
        return subprocess.Popen([*self.command, *arguments], env=environment(self.store), **settings)


def stop_service(store: Path) -> None:
    """End a store's service and everything mounted of it; fails if somebody still uses it."""
    if (store / "run").is_dir():
        eventually(lambda: _stopped(store))
    assert not [mount for mount in mounting.mounts() if os.fsencode(store) in mount.point]


def _stopped(store: Path) -> bool:
    """A container's end is known an instant before its supervisor gives its lease back."""
    try:
        return Service.stop(store)
    except Conflict:
        return False


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three commits: `main`, `main~1`, and `other` on top of `main~1`; a tag `v1`. Not to be changed."""
    directory = tmp_path_factory.mktemp("prepared")
    cli = Cli(directory / "store")
    root = make_busybox_root(directory / "root")
    (root / "etc/motd").write_text("one\ntwo\nthree\n")
    (root / "bin/link").symlink_to("busybox")
    cli("init")
    cli("import", str(root), "-m", "first\n\nWith a body.")
    cli("branch", "other")
    (root / "etc/motd").write_text("one\n2\nthree\nfour\n")
    (root / "etc/added").write_bytes(bytes(range(256)))
    (root / "etc/passwd").chmod(0o600)
    cli("import", str(root), "-m", "second")
    cli("tag", "v1", "main", "-m", "a release")
    (root / "etc/added").unlink()
    (root / os.fsdecode(b"odd\nname\xff")).write_text("odd\n")
    cli("import", str(root), "-b", "other", "-m", "third")
    return cli.store


@pytest.fixture
def cli(prepared: Path, tmp_path: Path) -> Iterator[Cli]:
    """Commands on a copy of the prepared store."""
    store = tmp_path / "store"
    shutil.copytree(prepared, store, symlinks=True)
    yield Cli(store)
    stop_service(store)


@pytest.fixture
def box(cli: Cli) -> Iterator[Cli]:
    """The same, for tests that make containers: they are removed in the end."""
    yield cli
    remove_containers(cli)


def remove_containers(cli: Cli) -> None:
    """End and remove all containers of a store, and its service."""
    names = cli.process("ps", "-aq").stdout.decode().split()
    if names:
        cli.process("rm", "-f", "--discard", *names)
    stop_service(cli.store)


@pytest.fixture
def empty(tmp_path: Path) -> Cli:
    """Commands on a store that is not there yet."""
    return Cli(tmp_path / "store")


@pytest.fixture
def until() -> Callable[..., Any]:
    """Wait for a condition."""
    return eventually


@pytest.fixture
def burner(box: Cli, tmp_path: Path) -> str:
    """A commit that has the program `/burn`."""
    (tmp_path / "root").mkdir()
    box("export", "main", str(tmp_path / "root"))
    compile_burner(tmp_path / "root/burn")
    box("import", str(tmp_path / "root"), "-b", "burner", "-m", "with /burn")
    return "burner"
