"""pull, from a registry of the test's own."""

from __future__ import annotations

import base64
import fcntl
import gzip
import json
import os
import random
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.images.remote import branch_of
from tests.cli.conftest import Cli
from tests.support import raw_tar
from tests.support.containers import eventually
from tests.support.images import LayoutMaker, MadeImage, digest, tar
from tests.support.processes import children_of
from tests.support.registry import PASSWORD, USER, CountingProxy, registry
from vcs.errors import InvalidName

BASE, UPPER, OTHER = tar({"etc": None, "etc/os": "base"}), tar({"etc/new": "new"}), tar({"etc/other": "other"})
LARGE_FILE = random.Random(7).randbytes(4 << 20).hex()
LARGE = tar({"large": LARGE_FILE})
SECONDS = 60
SECTION = {"Cmd": ["sh"], "Healthcheck": {"Test": ["CMD", "true"]}}
NO_TLS = "--tls-verify=false"


@dataclass
class Registry:
    """One that runs."""

    address: str
    directory: Path
    proxy: CountingProxy

    def push(self, layout: Path, name: str, *more: str) -> str:
        """Have it hold an image; returns what it is called."""
        reference = f"{self.address}/{name}"
        command = [
            "skopeo",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            *more,
            f"oci:{layout}",
            f"docker://{reference}",
        ]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)
        return reference

    def fetched(self) -> list[str]:
        """The digests of the blobs that were asked for, each time."""
        log = (self.directory / "log").read_text()
        lines = [
            line for line in log.splitlines() if "response completed" in line and "http.request.method=GET" in line
        ]
        return [found[1] for line in lines if (found := re.search(r"/blobs/(sha256:[0-9a-f]{64})", line))]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    directory = tmp_path_factory.mktemp("registry") / "data"
    with registry(directory) as proxy:
        yield Registry(proxy.address, directory, proxy)


@pytest.fixture
def store(empty: Cli) -> Cli:
    empty("init")
    return empty


def layout(path: Path, *layers: bytes, architecture: str = "amd64") -> Path:
    made = LayoutMaker(path)
    return made.name(made.image(MadeImage(layers, section=SECTION, architecture=architecture), packed=_packed))


def _packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def blob(layer: bytes) -> str:
    return digest(_packed(layer))


def test_a_pulled_image_is_the_one_that_was_pushed(store: Cli, server: Registry, tmp_path: Path) -> None:
    image = layout(tmp_path / "image", BASE, UPPER)
    reference = server.push(image, "team/app:1")
    told = store.json("pull", reference, NO_TLS)
    assert (told["branch"], told["layers"], told["known"]) == ("app-1", 2, 0)
    assert store.lines("ls", "app-1:/etc") == ["new", "os"]
    assert store.json("import", str(image))["commit"] == told["commit"]
    assert not [name for name in os.listdir(store.store / "caches") if name.startswith("pull-")]
    assert not store.json("pull", reference, NO_TLS)["made"]
    store("undo")
    store("fsck")


def test_a_docker_manifest_keeps_all_of_its_config(store: Cli, server: Registry, tmp_path: Path) -> None:
    config = MadeImage([BASE], section=SECTION)
    reference = server.push(layout(tmp_path / "image", BASE), "docker:2", "--format", "v2s2")
    told = store.json("pull", reference, NO_TLS)
    found = store.json("show", told["branch"])["config"]
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", "--config", "--tls-verify=false", f"docker://{reference}"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert found == json.loads(raw)
    assert told["image"] == digest(raw)
    assert found["rootfs"] == json.loads(config.config())["rootfs"]


def test_only_unknown_layers_are_fetched(store: Cli, server: Registry, tmp_path: Path) -> None:
    store("pull", server.push(layout(tmp_path / "one", BASE, UPPER), "similar:1"), NO_TLS)
    reference = server.push(layout(tmp_path / "two", BASE, OTHER), "similar:2")
    before = server.fetched()
    told = store.json("pull", reference, NO_TLS)
    assert told["known"] == 1
    fetched = server.fetched()[len(before) :]
    assert blob(OTHER) in fetched
    assert blob(BASE) not in fetched
    assert store.lines("ls", "similar-2:/etc") == ["os", "other"]


def test_an_interrupted_pull_goes_on_with_what_it_has(store: Cli, server: Registry, tmp_path: Path) -> None:
    layers = tar({"a": "resumed"}), tar({"b": "resumed"})
    image = layout(tmp_path / "image", *layers)
    reference = server.push(image, "resumed")
    manifest = json.loads((image / "index.json").read_bytes())["manifests"][0]["digest"]
    left = store.store / "caches" / f"pull-{manifest[7:]}"
    (left / "blobs/sha256").mkdir(parents=True)
    (left / "blobs/sha256" / blob(layers[0])[7:]).write_bytes(_packed(layers[0]))
    (left / "oci-put-blob123").write_bytes(b"half of one")
    # In the place of a layer that was known then: it has to be fetched now.
    (left / "blobs/sha256" / blob(layers[1])[7:]).touch()
    os.truncate(left / "blobs/sha256" / blob(layers[1])[7:], len(_packed(layers[1])))
    before = server.fetched()
    assert store.json("pull", reference, NO_TLS)["branch"] == "resumed"
    fetched = server.fetched()[len(before) :]
    assert blob(layers[0]) not in fetched
    assert blob(layers[1]) in fetched
    assert not left.exists()


@dataclass
class Slow:
    """A pull that stands still: its first layer has arrived, and some of the second one."""

    process: subprocess.Popen[bytes]
    terminal: int
    """Its end that reads what the pull shows."""
    directory: Path
    """What has arrived."""

    def skopeo(self) -> int:
        """A descriptor of the process that fetches, readable once that has ended."""
        pids = children_of(self.process.pid)
        (pid,) = [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text() == "skopeo\n"]
        return os.pidfd_open(pid)

    def shown(self, until: bytes) -> bytes:
        """What it has shown, once it has shown something."""
        said, deadline = b"", time.monotonic() + SECONDS
        while until not in said:
            assert _is_readable(self.terminal, deadline - time.monotonic()), said
            said += os.read(self.terminal, 1 << 16)
        return said

    def rest(self) -> bytes:
        """All that it shows until it ends."""
        said = b""
        with suppress(OSError):  # what a terminal gives that nobody has open any more
            while _is_readable(self.terminal, SECONDS) and (data := os.read(self.terminal, 1 << 16)):
                said += data
        return said


def _is_readable(fd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


@pytest.fixture
def slow(store: Cli, server: Registry, tmp_path: Path) -> Iterator[Slow]:
    image = layout(tmp_path / "slow", BASE, LARGE)
    reference = server.push(image, "slow")
    manifest = json.loads((image / "index.json").read_bytes())["manifests"][0]["digest"]
    directory = store.store / "caches" / f"pull-{manifest[7:]}"
    terminal, theirs = os.openpty()
    server.proxy.hold(1 << 20)
    process = store.start(
        "pull", reference, NO_TLS, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        eventually(lambda: (directory / "blobs/sha256" / blob(BASE)[7:]).exists())
        eventually(lambda: any(part.stat().st_size for part in directory.glob("oci-put-blob*")))
        yield Slow(process, terminal, directory)
    finally:
        server.proxy.release()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(SECONDS)
        os.close(terminal)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("to_all", [False, True], ids=["itself", "all"])
def test_a_pull_that_is_ended_leaves_nobody_and_the_next_one_goes_on(
    store: Cli, server: Registry, slow: Slow, number: signal.Signals, to_all: bool
) -> None:
    skopeo = slow.skopeo()
    try:
        if to_all:  # as Ctrl-C does
            os.killpg(slow.process.pid, number)
        else:
            slow.process.send_signal(number)
        code = slow.process.wait(SECONDS)
        assert _is_readable(skopeo, SECONDS), "skopeo goes on"
    finally:
        os.close(skopeo)
    assert code in {signal.SIGINT: (130, -2), signal.SIGTERM: (143, -15), signal.SIGKILL: (-9,)}[number]
    assert slow.directory.exists()
    assert store.json("branch") == []
    server.proxy.release()
    before = server.fetched()
    told = store.json("pull", f"{server.address}/slow", NO_TLS)
    assert told["layers"] == 2
    fetched = server.fetched()[len(before) :]
    assert blob(BASE) not in fetched
    assert not slow.directory.exists()
    assert store("cat", "slow:/large").stdout == LARGE_FILE
    store("fsck")


def test_a_terminal_has_a_line_for_each_layer(store: Cli, server: Registry, slow: Slow) -> None:
    said = slow.shown(until=b" B  done")
    assert re.search(rb"%s +\d+ B  done" % blob(BASE)[7:19].encode(), said)
    server.proxy.release()
    said += slow.rest()
    assert said.rindex(b"\x1b[J") < said.index(b"2 commits of 2 layers"), "the lines are gone before the last word"
    assert slow.process.wait(SECONDS) == 0


def test_gc_removes_what_a_killed_pull_left(store: Cli) -> None:
    used, left = (store.store / "caches" / f"pull-{name}" for name in ("used", "left"))
    for path in (used, left):
        (path / "blobs").mkdir(parents=True)
        (path / "blobs/x").write_bytes(bytes(10_000))
    file = os.open(used, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert store.json("gc", "--dry-run")["freed"] >= 10_000
        assert left.exists()
        store("gc")
    finally:
        os.close(file)
    assert used.exists()
    assert not left.exists()


def test_which_platform(store: Cli, server: Registry, tmp_path: Path) -> None:
    made = LayoutMaker(tmp_path / "image")
    both = [
        {
            **made.image(MadeImage([layer], architecture=name), packed=_packed),
            "platform": {"os": "linux", "architecture": name},
        }
        for name, layer in (("amd64", BASE), ("arm64", OTHER))
    ]
    made.name(made.index(*both))
    reference = server.push(made.path, "both:1", "--all")
    store("pull", reference, NO_TLS, "--platform", "linux/arm64", "-b", "arm")
    assert store.lines("ls", "arm:/etc") == ["other"]
    error = store.error("pull", reference, NO_TLS, "--platform", "linux/s390x")
    assert "no image for linux/s390x, but for linux/amd64, linux/arm64" in error["message"]
    exact = f"{reference.rpartition(':')[0]}@{both[0]['digest']}"
    assert store.json("pull", exact, NO_TLS)["branch"] == f"both-{both[0]['digest'][7:19]}"
    assert store.error("pull", exact, NO_TLS, "--platform", "linux/arm64")["kind"] == "NotFound"


def test_an_index_passes_through(store: Cli, server: Registry, tmp_path: Path) -> None:
    """Out of a registry, into it again, and out of it: the same images for the same platforms."""
    made = LayoutMaker(tmp_path / "image")
    platforms = [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
        {"architecture": "arm", "os": "linux", "variant": "v7"},
    ]
    names = ["index-1-amd64", "index-1-arm64", "index-1-arm-v7"]
    images = [
        made.image(MadeImage([BASE, tar({"name": name})], architecture=its["architecture"], more=its), packed=_packed)
        for name, its in zip(names, platforms, strict=True)
    ]
    note = made.image(MadeImage([], architecture="unknown"), packed=_packed)
    index = [{**image, "platform": its} for image, its in zip(images, platforms, strict=True)]
    made.name(made.index(*index, {**note, "platform": {"os": "unknown", "architecture": "unknown"}}))
    reference = server.push(made.path, "index:1", "--all")
    pulled = store.json("pull", reference, NO_TLS, "--platform", "all")
    assert [one["branch"] for one in pulled] == names
    assert [one["known"] for one in pulled] == [0, 1, 1]
    target = f"{server.address}/index:2"
    store.process("push", *names, target, NO_TLS).check_returncode()
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{target}"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert [one["platform"] for one in json.loads(raw)["manifests"]] == platforms
    again = store.json("pull", target, NO_TLS, "--platform", "all", "-b", "again")
    assert [one["branch"] for one in again] == [name.replace("index-1", "again") for name in names]
    assert [one["root"] for one in again] == [one["root"] for one in pulled]
    assert not any(one["made"] for one in store.json("pull", reference, NO_TLS, "--platform", "all"))


def test_an_image_for_one_platform_is_all_of_them(store: Cli, server: Registry, tmp_path: Path) -> None:
    reference = server.push(layout(tmp_path / "image", BASE), "single:1")
    (one,) = store.json("pull", reference, NO_TLS, "--platform", "all")
    assert one["branch"] == "single-1-amd64"


def test_what_a_registry_spoils(store: Cli, server: Registry, tmp_path: Path) -> None:
    layer = tar({"spoilt": "x"})
    reference = server.push(layout(tmp_path / "image", layer), "spoilt:1")
    (data,) = server.directory.glob(f"storage/**/{blob(layer)[7:]}/data")
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    error = store.error("pull", reference, NO_TLS)
    assert error["kind"] in ("EngineError", "BadInput")
    assert "\n" not in error["message"]
    assert store.json("branch") == []


def test_a_hostile_image_leaves_nothing(store: Cli, server: Registry, tmp_path: Path) -> None:
    bad = raw_tar.member(b"../x") + raw_tar.END
    reference = server.push(layout(tmp_path / "image", BASE, bad), "hostile:1")
    error = store.error("pull", reference, NO_TLS)
    assert error["kind"] == "BadInput"
    assert "contains '..'" in error["message"]
    assert store.json("branch") == []
    assert not list((store.store / "caches").glob("pull-*"))


def test_credentials_are_those_of_the_standard_files(store: Cli, tmp_path: Path) -> None:
    with registry(tmp_path / "closed", has_users=True) as proxy:
        closed = Registry(proxy.address, tmp_path / "closed", proxy)
        key = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        login = json.dumps({"auths": {proxy.address: {"auth": key}}})
        named = tmp_path / "auth.json"
        named.write_text(login)
        reference = closed.push(layout(tmp_path / "image", BASE), "closed", f"--dest-authfile={named}")
        error = store.error("pull", reference, NO_TLS)
        assert "log in first" in error["advice"]
        assert store.json("pull", reference, NO_TLS, "--authfile", str(named))["made"]
        (store.store.parent / "containers").mkdir()
        (store.store.parent / "containers/auth.json").write_text(login)
        assert store.json("pull", reference, NO_TLS, "-b", "other")["made"]


def test_what_cannot_be_pulled(store: Cli, server: Registry) -> None:
    assert "manifest unknown" in store.error("pull", f"{server.address}/team/app:nothing", NO_TLS)["message"]
    assert "--tls-verify=false" in store.error("pull", f"{server.address}/team/app:1")["advice"]
    error = store.error("pull", "debian", env={"PATH": "/nonexistent"})
    assert "skopeo is not installed" in error["message"]
    for wrong in ("-x", "/x", "x@y", ""):
        assert store.error("pull", "--", wrong)["kind"] == "InvalidName"


@pytest.mark.parametrize(
    ("reference", "branch"),
    [
        ("debian", "debian"),
        ("debian:latest", "debian"),
        ("docker.io/library/debian:12", "debian-12"),
        ("docker://quay.io/a/b:1.2", "b-1.2"),
        ("localhost:5000/x", "x"),
        (f"localhost:5000/x:1@sha256:{'ab' * 32}", "x-abababababab"),
    ],
)
def test_the_branch_of_an_image(reference: str, branch: str) -> None:
    assert branch_of(reference) == branch


def test_no_name() -> None:
    with pytest.raises(InvalidName):
        branch_of("@")


def test_from_pulls_an_image(store: Cli, server: Registry, tmp_path: Path) -> None:
    reference = server.push(layout(tmp_path / "image", BASE, UPPER), "team/from:2")
    context = tmp_path / "context"
    context.mkdir()
    (context / "page").write_text("1\n")
    (context / "Dockerfile").write_text(f"FROM {reference}\nCOPY page /srv/page\nENV A=b\n")
    words = ("build", NO_TLS, "-t", "made", "--format", "json", str(context))
    done = store.process(*words)
    assert done.returncode == 0, done.stderr.decode()
    assert store("cat", "made:/srv/page", "made:/etc/os").stdout == "1\nbase"
    assert store("cat", "from-2:/etc/new").stdout == "new", "the image has a branch of its own"
    asked = len(server.fetched())
    again = store.process(*words)
    assert json.loads(again.stdout)["commit"] == json.loads(done.stdout)["commit"]
    assert len(server.fetched()) == asked, "what was pulled is not asked for again"
    (context / "Dockerfile").write_text(f"FROM {server.address}/team/none\nCOPY page /\n")
    refused = store.process(*words)
    assert refused.returncode == 125
    assert b"treering pull" in refused.stderr
    store("fsck")
