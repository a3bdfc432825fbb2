"""treering build: commits, the cache that they are, what is refused, and what is left when it is interrupted."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs import mounting
from runtime.building.cache import BUILDS
from tests.cli.conftest import Cli, remove_containers
from tests.support.containers import eventually
from tests.support.processes import children_of
from vcs.store import Store

_SECONDS = 60


class Context:
    """A directory with a Dockerfile, and builds of it."""

    def __init__(self, cli: Cli, path: Path) -> None:
        self.cli = cli
        self.path = path
        self.others = _private_directories()
        path.mkdir()

    def write(self, name: str, text: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text)

    def build(self, dockerfile: str, *options: str, code: int = 0) -> str:
        """What it says."""
        self.write("Dockerfile", dockerfile)
        done = self.cli.process("build", *options, str(self.path), stdin=subprocess.DEVNULL)
        assert done.returncode == code, done.stderr.decode()
        return str(done.stderr.decode())

    def made(self, dockerfile: str, *options: str) -> dict[str, object]:
        """What it tells programs."""
        self.write("Dockerfile", dockerfile)
        done = self.cli.process("build", "--format", "json", *options, str(self.path), stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr.decode()
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def cat(self, place: str) -> str:
        return str(self.cli("cat", place).stdout)


@pytest.fixture
def context(cli: Cli, tmp_path: Path) -> Iterator[Context]:
    try:
        yield Context(cli, tmp_path / "context")
        done = cli.process("fsck", "--read-data")
        assert done.returncode == 0, done.stderr.decode()
        assert cli.process("ps", "-aq").stdout == b""
    finally:
        remove_containers(cli)


# -- commits and the cache


def test_each_instruction_is_a_commit(context: Context) -> None:
    context.write("app", "app\n")
    context.build("FROM main\nENV A=1\nWORKDIR /srv\nCOPY app .\nRUN cat app > ran\nUSER ana\nCMD run\n", "-t", "app")
    titles = context.cli("log", "--oneline", "app", "-n", "6").stdout.splitlines()
    assert [line.split(" ", 1)[1].replace("(app) ", "").strip() for line in titles] == [
        "CMD run", "USER ana", "RUN cat app > ran", "COPY app .", "WORKDIR /srv", "ENV A=1",
    ]  # fmt: skip
    assert context.cat("app:/srv/ran") == "app\n"
    store = Store.open(context.cli.store)
    with store:
        assert store.history.resolve("app~6") == store.history.resolve("main")
        message = store.commit(store.history.resolve("app~2")).message
        config = store.history.config(store.history.resolve("app"))["config"]
    assert message == "RUN cat app > ran\n\nDockerfile: Dockerfile, line 5\nStage: 0\nChanges: A1\n"
    assert (config["WorkingDir"], config["User"], config["Cmd"]) == ("/srv", "ana", ["/bin/sh", "-c", "run"])


def test_what_was_made_is_not_made_again(context: Context) -> None:
    context.write("app", "1\n")
    text = "FROM main\nRUN echo a > /a\nCOPY app /app\nRUN cat /app > /b\n"
    first = context.made(text, "-t", "app")
    assert (first["made"], first["cached"], first["moved"]) == (3, 0, True)
    os.utime(context.path / "app", (1, 1))  # a new checkout has other times
    again = context.made(text, "-t", "app")
    assert (again["made"], again["cached"], again["moved"], again["commit"]) == (0, 3, False, first["commit"])
    context.write("app", "2\n")
    assert context.made(text, "-t", "app")["made"] == 2
    assert context.cat("app:/b") == "2\n"
    (context.path / "app").chmod(0o755)
    assert context.made(text)["made"] == 2
    context.write("app", "1\n")
    (context.path / "app").chmod(0o644)
    assert context.made(text)["commit"] == first["commit"]
    assert context.made(text, "--no-cache")["made"] == 3


def test_what_a_step_does_not_use_does_not_matter(context: Context) -> None:
    context.write("used/a", "1\n")
    context.write("other", "1\n")
    text = "FROM main\nARG V=1\nCOPY used /used\nRUN true\nARG W=1\nRUN echo $W > /w\n"
    context.made(text, "-t", "app")
    context.write("other", "2\n")
    context.write("used/.hidden", "x\n")
    (context.path / "used/.hidden").unlink()
    assert context.made(text)["made"] == 0
    assert context.made(text, "--build-arg", "W=2")["made"] == 1
    assert context.made(text, "--build-arg", "V=2")["made"] == 2  # both RUNs have it in their environment


def test_another_base_is_another_build(context: Context) -> None:
    text = "FROM main\nRUN true\n"
    context.made(text)
    context.cli("branch", "-f", "main", "other")
    assert context.made(text)["made"] == 1


def test_a_branch_moves_once_and_undo_takes_it_back(context: Context) -> None:
    context.build("FROM main\nRUN echo 1 > /x\n", "-t", "app")
    context.build("FROM main\nRUN echo 2 > /x\nRUN echo 3 > /y\n", "-t", "app")
    assert len(context.cli.lines("reflog", "app")) == 2
    context.cli("undo")
    assert context.cat("app:/x") == "1\n"
    context.cli("undo")
    assert "app" not in context.cli("branch").stdout
    context.cli("redo")
    assert context.cat("app:/x") == "1\n"


def test_without_a_branch_the_commit_is_printed(context: Context) -> None:
    context.write("Dockerfile", "FROM main\nRUN echo 1; echo 2 >&2; printf 3\n")
    done = context.cli.process("build", str(context.path))
    commit = done.stdout.decode().strip()
    assert len(commit) == 40
    said = done.stderr.decode().splitlines()
    assert said[:2] == [
        "#1 [0 1/2] FROM main",
        f"#1 DONE 0.0s {context.cli.json('log', '-n', '1', 'main')[0]['commit'][:12]}",
    ]
    assert said[2] == "#2 [0 2/2] RUN echo 1; echo 2 >&2; printf 3"
    assert sorted(said[3:6]) == ["#2 1", "#2 2", "#2 3"]
    quiet = context.cli.process("build", "-q", str(context.path))
    assert (quiet.stdout.decode().strip(), quiet.stderr) == (commit, b"")


def test_a_scratch_image_has_what_is_copied(context: Context) -> None:
    context.write("a", "a\n")
    context.build("FROM main AS x\nRUN echo b > /b\nFROM scratch\nCOPY a /\nCOPY --from=x /b /dir/c\n", "-t", "small")
    assert context.cli.lines("ls", "small:/") == ["a", "dir"]
    assert context.cat("small:/dir/c") == "b\n"
    assert "in scratch that could be run" in context.build("FROM scratch\nRUN x\n", code=125)


def test_what_only_changes_the_config_keeps_the_root(context: Context) -> None:
    context.build("FROM main\nLABEL a=b\nEXPOSE 80\n", "-t", "app")
    with Store.open(context.cli.store) as store:
        roots = {store.commit(store.history.resolve(name)).root for name in ("main", "app", "app~1")}
        assert len(roots) == 1
        assert store.history.config(store.history.resolve("app"))["config"]["ExposedPorts"] == {"80/tcp": {}}


def test_hard_links_that_are_written_over_are_counted_again(context: Context) -> None:
    context.write("new", "new\n")
    context.build(
        "FROM main\nRUN mkdir /d && echo x > /d/a && ln /d/a /d/b && ln /d/a /d/c\nCOPY new /d/a\nCOPY new /d/b\n",
        "-t", "app",
    )  # fmt: skip
    assert context.cat("app:/d/a") == "new\n"
    assert context.cat("app:/d/c") == "x\n"  # and fsck counts the links of it


# -- errors


def test_a_failing_step_tells_where_to_look(context: Context) -> None:
    said = context.build("FROM main\nRUN echo before > /x\n\nRUN echo output && exit 7\n", "-t", "app", code=7)
    assert "#3 output" in said
    error = said.splitlines()[-2:]
    assert error[0] == ("treering: Dockerfile, line 4: RUN echo output && exit 7: the command ended with exit code 7")
    commit = error[1].rpartition("-it ")[2].split()[0]
    assert context.cat(f"{commit}:/x") == "before\n"
    assert "app" not in context.cli("branch").stdout
    done = context.cli.process("run", "--rm", commit, "cat", "/x")
    assert done.stdout == b"before\n"
    assert context.made("FROM main\nRUN echo before > /x\n")["made"] == 0


def test_a_command_that_is_not_there(context: Context) -> None:
    said = context.build('FROM main\nRUN ["/no/such"]\n', code=127)
    assert "line 2" in said


@pytest.mark.parametrize(
    ("dockerfile", "says"),
    [
        ("FROM main\nRUN touch /ran\nADD http://example.org/x /\n", "line 3: ADD: http://example.org/x"),
        ("FROM main\nCOPY nothing /\n", "line 2: COPY: 'nothing' is not in the context"),
        ("FROM main\nCOPY *.nothing /\n", "line 2: COPY: '*.nothing' is not in the context"),
        ("FROM main\nCOPY ../../etc/shadow /\n", "is not in the context"),
        ("FROM main\nCOPY out /\n", "line 2: COPY: 'out' is not in the context"),
        ("FROM main\nCOPY a /bin/sh/x\n", "line 2: COPY: "),
        ("FROM main\nCOPY --chown=nobody-here a /x\n", "line 2: COPY: --chown=nobody-here: user nobody-here is not in"),
        ("FROM main\nRUN --mount=type=secret,id=s,required=true x\n", "line 2: RUN: it requires the secret 's'"),
        ("FROM main\nWORKDIR /etc/passwd\n", "line 2: WORKDIR: /etc/passwd is not a directory"),
        ("FROM scratch\n", "nothing was made"),
    ],
)
def test_what_cannot_be_built(context: Context, dockerfile: str, says: str) -> None:
    context.write("a", "a\n")
    (context.path / "out").symlink_to("/etc/passwd")
    assert says in context.build(dockerfile, "-t", "app", code=125)
    with Store.open(context.cli.store) as store:
        assert store.history.refs("refs/heads/").keys() == {"main", "other"}


def test_nothing_runs_before_all_is_known_to_be_supported(context: Context) -> None:
    context.build("FROM main\nRUN echo 1 > /x\nRUN --mount=type=ssh x\n", code=125)
    with Store.open(context.cli.store) as store:
        assert not store.history.refs(BUILDS)


def test_names_that_cannot_be_are_told_before_the_work(context: Context) -> None:
    for name in ("app:1.0", "-x", "a..b", "HEAD", "x.lock"):
        said = context.build("FROM main\nRUN true\n", f"--tag={name}", code=125)
        assert "cannot be a branch" in said
        assert "#1" not in said


# -- secrets, caches


def test_a_secret_is_in_no_commit_and_not_in_the_store(context: Context) -> None:
    secret = os.urandom(30).hex()
    context.write("token", secret)
    context.write("app", "a\n")
    said = context.build(
        "FROM main\nCOPY app /\n"
        "RUN --mount=type=secret,id=token,mode=0444 --mount=type=secret,id=other "
        "cat /run/secrets/token | wc -c > /length;"
        " cat /run/secrets/token > /dev/null; ls /run/secrets > /names\n",
        "-t", "app", "--secret", f"id=token,src={context.path}/token",
    )  # fmt: skip
    assert context.cat("app:/length").strip() == str(len(secret))
    assert context.cat("app:/names") == "token\n"
    assert secret not in said
    assert context.cli.process("cat", "app:/run/secrets/token").returncode == 125
    assert context.cli.process("ls", "app:/run").returncode == 125
    exported = context.path.parent / "exported"
    exported.mkdir()
    for name in ("app", "app~1"):
        context.cli("export", name, str(exported / name))
    for top in (exported, context.cli.store):
        for path in top.rglob("*"):
            if path.is_file() and not path.is_symlink():
                assert secret.encode() not in path.read_bytes()
    with Store.open(context.cli.store) as store:
        import blake3

        assert blake3.blake3(secret.encode()).digest() not in store


def test_a_cache_stays_from_run_to_run_and_in_no_commit(context: Context) -> None:
    text = "FROM main\nRUN --mount=type=cache,target=/var/x,id=mine echo {0} >> /var/x/f; cat /var/x/f > /f\n"
    context.build(text.format("1"))
    context.build(text.format("2"), "-t", "app")
    assert context.cat("app:/f") == "1\n2\n"
    assert context.cli.process("ls", "app:/var").returncode == 125
    caches = context.cli.store / "caches" / "build"
    assert len([path for path in caches.iterdir() if path.is_dir()]) == 1
    subprocess.run(
        ["git", "-C", context.cli.store / "history.git", "config", "treering.buildCache", "now"], check=True, timeout=60
    )
    said = context.cli.process("gc", "--dry-run").stderr.decode()
    assert "2 steps of builds and 1 cache of theirs would go too" in said
    context.cli("gc")
    assert not [path for path in caches.iterdir() if path.is_dir()]
    with Store.open(context.cli.store) as store:
        assert not store.history.refs(BUILDS)
    assert context.cat("app:/f") == "1\n2\n"


def test_steps_of_builds_keep_no_forgotten_commit(context: Context) -> None:
    context.build("FROM other\nRUN echo 1 > /1\nRUN echo 2 > /2\n", "-t", "app")
    context.cli("forget", "app", "--keep-last", "1")
    with Store.open(context.cli.store) as store:
        assert not store.history.refs(BUILDS)
    assert context.cat("app:/2") == "2\n"
    assert context.made("FROM other\nRUN echo 1 > /1\nRUN echo 2 > /2\n")["made"] == 2


def test_the_network_is_what_was_asked_for(context: Context) -> None:
    count = "ls /sys/class/net | wc -l"
    text = f"FROM main\nRUN readlink /proc/self/ns/net > /a\nRUN --network=none {count} > /b\n"
    context.build(text, "-t", "app")
    assert context.cat("app:/a").strip() == os.readlink("/proc/self/ns/net")
    assert context.cat("app:/b").strip() == "1"


# -- interruptions


def begun(context: Context, *options: str) -> subprocess.Popen[bytes]:
    """A build in the middle of a RUN that does not end by itself."""
    context.write("Dockerfile", "FROM main\nRUN echo 1 > /1\nRUN echo begun && sleep 1000\nRUN true\n")
    process = context.cli.start(
        "build", "-t", "app", *options, str(context.path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    said, deadline = b"", time.monotonic() + _SECONDS
    while b"\n#3 begun\n" not in said:
        ready = select.select([process.stderr], [], [], max(0.0, deadline - time.monotonic()))[0]
        data = os.read(process.stderr.fileno(), 1 << 16) if ready else b""
        if not data:
            process.kill()
            process.wait(_SECONDS)
            raise AssertionError(f"it did not begin: {said.decode()}")
        said += data
    return process


def _private_directories() -> set[Path]:
    return set(Path("/dev/shm").glob("treering-build-*"))


def _is_clean(context: Context) -> bool:
    if os.listdir(context.cli.store / "containers") and context.cli.process("ps", "-aq").stdout:
        return False
    return not _private_directories() - context.others


def _builds_again(context: Context) -> None:
    eventually(lambda: _is_clean(context))
    assert not [
        mount
        for mount in mounting.mounts()
        if b"rootfs" in mount.point and os.fsencode(context.path.parent) in mount.point
    ]
    assert context.made("FROM main\nRUN echo 1 > /1\nRUN echo 2 > /2\n", "-t", "app")["made"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_leaves_nothing(context: Context, number: int) -> None:
    process = begun(context)
    try:
        process.send_signal(number)
        code = process.wait(_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(_SECONDS)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
    assert code in {signal.SIGINT: (130, -2), signal.SIGTERM: (143, -15), signal.SIGKILL: (-9,)}[signal.Signals(number)]
    _builds_again(context)


def test_what_a_killed_guard_left_is_removed_by_the_next_run(context: Context) -> None:
    process = begun(context)
    try:
        process.send_signal(signal.SIGSTOP)  # or it would see the guard die, and remove the container
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        for pid in children_of(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait(_SECONDS)
    finally:
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
    assert context.cli.process("ps", "-q").stdout.strip()
    assert _private_directories() - context.others
    assert context.made("FROM main\nRUN echo 2 > /2\n")["made"] == 1
    assert context.cli.process("ps", "-aq").stdout == b""
    assert not _private_directories() - context.others
