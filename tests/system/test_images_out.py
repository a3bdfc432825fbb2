"""Images as other tools see them: skopeo, umoci, podman and a registry take them, and find the very tree in them."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.images.model import digest_of
from tests.cli.conftest import Cli
from tests.cli.test_saving import for_platform
from tests.support import cgroups, rich_tree
from tests.support.busybox_root import make_busybox_root
from tests.support.compare import differences, has_same_bytes
from tests.support.containers import eventually
from tests.support.plans import Plan, plans
from tests.support.plans import build as build_plan
from tests.support.registry import PASSWORD, USER, CountingProxy, registry
from tests.support.rich_tree import CAPABILITY, needs_root
from vcs.history import Author
from vcs.model import CommitId
from vcs.store import Store

pytestmark = needs_root
_TIMEOUT = 120
SPARSE = frozenset({"extents", "content"})
"""Go's programs write zeros where holes were. What is compared by extents is compared by bytes as well, below."""
Commit = Callable[[], None]


def tool(*command: str | Path, **settings: object) -> bytes:
    """Run another program to its end; returns what it printed."""
    done = subprocess.run(
        command, stdin=settings.pop("stdin", subprocess.DEVNULL), capture_output=True, timeout=_TIMEOUT, check=False
    )  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')}"
    output: bytes = done.stdout
    return output


# -- five kinds of images: each changes a root, and commits it now and then


def one_layer(root: Path, commit: Commit) -> None:
    make_busybox_root(root, bare=True)
    commit()


def everything(root: Path, commit: Commit) -> None:
    """All types, owners, set-user-ID, ACLs, capabilities, holes, long and odd names."""
    rich_tree.make(root, sockets=False)
    (root / "whiteout").unlink()
    # What readers written in Go cannot tell: an empty value, and GNU's way to write `=` in a name.
    os.removexattr(root / "xattrs", "user.empty")
    os.removexattr(root / "xattrs", "user.a=b%3Dc%")
    commit()
    (root / "small").write_text("changed")
    commit()


def whiteouts(root: Path, commit: Commit) -> None:
    """Files become directories and the reverse; directories go, are emptied, and come back."""
    for path in ("a/b/c", "d/e", "f", "g/h/i", "keep/me"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    commit()
    shutil.rmtree(root / "a")
    (root / "a").write_text("a file now")
    (root / "f").unlink()
    (root / "f").mkdir()
    (root / "f/x").write_text("x")
    (root / "d/e").unlink()
    shutil.rmtree(root / "g")
    commit()
    (root / "a").unlink()
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/other").write_text("not c")
    (root / "g").mkdir(mode=0o700)
    (root / os.fsdecode(b"odd\xff\nname")).write_text("odd")
    commit()
    (root / os.fsdecode(b"odd\xff\nname")).unlink()
    shutil.rmtree(root / "f")
    commit()


def hard_links(root: Path, commit: Commit) -> None:
    """Groups grow, shrink, move and part, over layers."""
    (root / "a").mkdir(parents=True)
    (root / "b").mkdir()
    (root / "a/1").write_text("one file")
    os.link(root / "a/1", root / "b/2")
    (root / "a/x").write_text("another")
    os.link(root / "a/x", root / "b/x")
    commit()
    os.link(root / "a/1", root / "3")
    commit()
    os.rename(root / "b/2", root / "b/moved")
    commit()
    (root / "b/x").unlink()
    (root / "b/x").write_text("its own now")
    (root / "3").unlink()
    commit()


def attributes(root: Path, commit: Commit) -> None:
    """Only modes, owners, times, capabilities and extended attributes change."""
    (root / "dir").mkdir(parents=True)
    for name in ("ping", "su", "dir/file"):
        (root / name).write_bytes(b"\x7fELF" * 1000)
    commit()
    os.chown(root / "su", 1000, 2000)
    os.chmod(root / "su", 0o6711)
    os.setxattr(root / "ping", "security.capability", CAPABILITY)
    commit()
    os.chmod(root / "dir", 0o3770)
    os.setxattr(root / "dir", "user.note", b"\0\xff")
    os.utime(root / "dir/file", ns=(1, 1_234_567_890_123_456_789))
    commit()


KINDS = (one_layer, everything, whiteouts, hard_links, attributes)


@pytest.fixture
def store(tmp_path: Path) -> Cli:
    cli = Cli(tmp_path / "store")
    cli("init")
    return cli


def build(cli: Cli, top: Path, kind: Callable[[Path, Commit], None]) -> Path:
    """Make the commits of a kind on `main`; returns the last state, exported."""
    root = top / "root"
    numbers = iter(range(100))

    def commit() -> None:
        cli("import", str(root), "-m", f"step {next(numbers)}")

    kind(root, commit)
    cli("export", "main", str(top / "exported"))
    return top / "exported"


@pytest.mark.parametrize("kind", KINDS)
def test_skopeo_and_umoci_find_the_same_tree(store: Cli, tmp_path: Path, kind: Callable[[Path, Commit], None]) -> None:
    expected = build(store, tmp_path, kind)
    saved = store.json("save", "main", "-o", str(tmp_path / "layout"))
    seen = json.loads(tool("skopeo", "inspect", f"oci:{tmp_path}/layout:main"))
    assert seen["Digest"] == saved["digest"]
    assert seen["Layers"] == [layer["digest"] for layer in saved["layers"]]
    tool("umoci", "unpack", "--image", f"{tmp_path}/layout:main", tmp_path / "bundle")
    unpacked = tmp_path / "bundle/rootfs"
    assert differences(expected, unpacked, ignore=SPARSE) == []
    assert has_same_bytes(expected, unpacked)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(plans, min_size=2, max_size=4))
def test_umoci_applies_random_edits(tmp_path: Path, states: list[Plan]) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        top = Path(name)
        cli = Cli(top / "store")
        cli("init")
        with Store.open(cli.store) as store, store.writing():
            parents: tuple[CommitId, ...] = ()
            author = Author("Ada", "ada@example.org", 1_700_000_000)
            for state in states:
                with store.batch() as batch:
                    root = build_plan(batch, state)
                parents = (store.add_commit(root, {}, "a state\n", author, parents),)
            store.history.move("refs/heads/main", parents[0], None, "test", author)
        cli("save", "main", "-o", str(top / "layout"))
        cli("export", "main", str(top / "exported"))
        tool("umoci", "unpack", "--image", f"{top}/layout:main", top / "bundle")
        found = differences(top / "exported", top / "bundle/rootfs", ignore=SPARSE)
        sockets = {str(path.relative_to(top / "exported")) for path in top.glob("exported/**/*") if path.is_socket()}
        told = [line for line in found if not line.endswith(f": only in {top / 'exported'}")]
        assert told == []
        assert len(found) == len(sockets)


# -- podman


def _removed(group: str) -> bool:
    """A cgroup is busy until its last process has ended, an instant after podman."""
    try:
        os.rmdir(group)
    except OSError:
        return False
    return True


class Podman:
    """podman with a storage of its own, in a mount namespace of its own: it leaves a mount there."""

    def __init__(self, storage: Path, running: Path) -> None:
        options: list[str | Path] = ["--root", storage, "--runroot", running, "--storage-driver", "overlay"]
        engine = ["--runtime", "runc", "--cgroup-manager", "cgroupfs"]
        self._command: list[str | Path] = ["unshare", "--mount", "podman", *options, *engine]
        self._group = f"/treering-test-{os.getpid()}"

    def __call__(self, *arguments: str | Path) -> bytes:
        return tool(*self._command, *arguments)

    def run(self, image: str, *command: str) -> bytes:
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
        options = ["--rm", "--network", "none", "--cgroup-parent", self._group, *limits]
        return self("run", *options, image, *command)

    def copied(self, image: str, target: Path) -> None:
        """Copy an image's tree, as its overlay shows it."""
        script = 'target=$1; shift; top=$("$@"); cp -a "$top" "$target"'
        tool("unshare", "--mount", "sh", "-ec", script, "sh", target, *self._command[2:], "image", "mount", image)

    def clean(self) -> None:
        """Its monitor has a cgroup for itself, which stays."""
        for top in cgroups.named(self._group[1:]):
            for directory, _, _ in os.walk(top, topdown=False):
                eventually(lambda directory=directory: _removed(directory))


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Podman]:
    running = Path(tempfile.mkdtemp(prefix="podman-"))  # it insists on a short path
    podman = Podman(tmp_path / "containers", running)
    try:
        yield podman
        podman.clean()
    finally:
        shutil.rmtree(running)


@pytest.mark.parametrize("kind", KINDS)
def test_podman_finds_the_same_tree(
    store: Cli, tmp_path: Path, podman: Podman, kind: Callable[[Path, Commit], None]
) -> None:
    expected = build(store, tmp_path, kind)
    store("save", "main", "-o", str(tmp_path / "main.tar"))
    podman("load", "-i", tmp_path / "main.tar")
    podman.copied("localhost/main:latest", tmp_path / "copied")
    found = differences(expected, tmp_path / "copied", ignore=SPARSE)
    # podman gives the top directory attributes of its own, and has no times before 1970.
    assert [line for line in found if not line.startswith(".: ") and not re.search(r": mtime: -\d+ != 0$", line)] == []
    assert has_same_bytes(expected, tmp_path / "copied")


@pytest.mark.parametrize(
    "options",
    [[], ["--image-format", "oci-archive"], ["--compression", "gzip"],
     ["--image-format", "oci-archive", "--compression", "zstd"]],
)  # fmt: skip
def test_podman_runs_what_was_saved(store: Cli, tmp_path: Path, podman: Podman, options: list[str]) -> None:
    root = make_busybox_root(tmp_path / "root")
    store("import", str(root))
    (root / "etc/motd").write_text("welcome\n")
    store("import", str(root), "-m", "a greeting")
    saved = store.json("save", "main", "-o", str(tmp_path / "web.tar"), "-t", "web:1", *options)
    podman("load", "-i", tmp_path / "web.tar")
    assert podman.run("localhost/web:1", "cat", "/etc/motd") == b"welcome\n"
    (image,) = json.loads(podman("image", "inspect", "localhost/web:1"))
    assert "sha256:" + image["Id"] == saved["id"]
    assert image["RootFS"]["Layers"] == [layer["diff_id"] for layer in saved["layers"]]


# -- a registry


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[CountingProxy]:
    with registry(tmp_path / "registry") as hub:
        yield hub


def test_a_second_push_sends_only_what_is_new(store: Cli, tmp_path: Path, hub: CountingProxy) -> None:
    root = make_busybox_root(tmp_path / "root", bare=True)
    (root / "data").write_bytes(os.urandom(3_000_000))
    store("import", str(root))
    reference = f"{hub.address}/team/web:1"
    first = store.json("push", "main", reference, "--tls-verify=false")
    sent = hub.received
    assert sent > 3_000_000
    (root / "etc/motd").write_text("welcome\n")
    store("import", str(root), "-m", "a greeting")
    second = store.json("push", "main", reference, "--tls-verify=false")
    assert hub.received - sent < 20_000
    assert second["layers"][0] == first["layers"][0]
    before = hub.received
    assert store.json("push", "main", reference, "--tls-verify=false")["digest"] == second["digest"]
    assert hub.received - before < 10_000
    seen = json.loads(tool("skopeo", "inspect", "--tls-verify=false", f"docker://{reference}"))
    assert seen["Digest"] == second["digest"]
    tool("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", f"docker://{reference}",
         f"oci:{tmp_path}/pulled:web")  # fmt: skip
    tool("umoci", "unpack", "--image", f"{tmp_path}/pulled:web", tmp_path / "bundle")
    store("export", "main", str(tmp_path / "exported"))
    assert differences(tmp_path / "exported", tmp_path / "bundle/rootfs") == []


def test_an_index_is_pushed_as_a_whole(store: Cli, tmp_path: Path, hub: CountingProxy) -> None:
    make_busybox_root(tmp_path / "root", bare=True)
    store("import", str(tmp_path / "root"))
    for_platform(store, "other", "s390x")
    pushed = store.json("push", "main", "other", f"{hub.address}/web:1", "--tls-verify=false")
    seen = tool("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{hub.address}/web:1")
    assert digest_of(seen) == pushed["digest"]
    assert [one["digest"] for one in json.loads(seen)["manifests"]] == [one["digest"] for one in pushed["images"]]
    other = tool("skopeo", "--override-arch=s390x", "inspect", "--tls-verify=false", f"docker://{hub.address}/web:1")
    assert json.loads(other)["Architecture"] == "s390x"


def test_credentials_are_those_of_the_standard_files(store: Cli, tmp_path: Path) -> None:
    make_busybox_root(tmp_path / "root", bare=True)
    store("import", str(tmp_path / "root"))
    with registry(tmp_path / "registry", has_users=True) as hub:
        command = ["push", "main", f"{hub.address}/web", "--tls-verify=false"]
        assert "log in first" in store.error(*command)["advice"]
        word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {hub.address: {"auth": word}}}))
        store(*command, env={"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")})
        store(*command, "--authfile", str(tmp_path / "auth.json"))


def test_what_a_registry_refuses(store: Cli, tmp_path: Path, hub: CountingProxy) -> None:
    make_busybox_root(tmp_path / "root", bare=True)
    store("import", str(tmp_path / "root"))
    error = store.error("push", "main", f"{hub.address}/web")
    assert error["kind"] == "EngineError"
    assert "--tls-verify=false" in error["advice"]
    gone = hub.address
    hub.close()
    assert "refused" in store.error("push", "main", f"{gone}/web", "--tls-verify=false")["message"]
