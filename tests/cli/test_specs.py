"""What options of containers mean, and what is said where they mean nothing. No containers."""

from __future__ import annotations

import contextlib
import doctest
import importlib
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cli import specs
from runtime.cli.program import program
from runtime.cli.run_settings import settings_of
from runtime.settings import Health, Limits, Log, Mount, Port, Restart, Security, Settings
from tests.cli.conftest import Cli


@pytest.mark.parametrize("module", ["runtime.cli.specs", "runtime.imageconfig", "runtime.bundle.capabilities",
                                    "runtime.bundle.resources"])  # fmt: skip
def test_the_examples_in_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed


def asked(*words: str, image: dict[str, Any] | None = None) -> Settings:
    """The settings that a command line comes to."""
    command = program.get_command(click.Context(program), "create")
    assert command is not None
    with command.make_context("create", [*words, "main", "true"]) as context:
        values = {name: value for name, value in context.params.items() if name not in ("revision", "command")}
        return settings_of(values, ("true",), image or {})


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["-m", "512m"], "limits", Limits(memory=512 << 20)),
        (["--memory", "1.5GiB", "--cpus", ".5", "--pids-limit", "10"], "limits", Limits(3 << 29, 0.5, 10)),
        (["--pids-limit", "-1"], "limits", Limits()),
        (["-v", "/a:/b"], "mounts", (Mount("bind", "/b", "/a"),)),
        (["-v", "/a:/b/../c/:ro,z,rshared"], "mounts", (Mount("bind", "/c", "/a", True, ("rshared",)),)),
        (["--mount", "type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave"], "mounts",
         (Mount("bind", "/b", "/a", True, ("rslave",)),)),
        (["--mount", "source=/a,target=/b,ro=false"], "mounts", (Mount("bind", "/b", "/a"),)),
        (["--mount", "type=tmpfs,destination=/t,tmpfs-mode=0700"], "mounts",
         (Mount("tmpfs", "/t", options=("mode=0700",)),)),
        (["--tmpfs", "/t:ro,size=1m", "--tmpfs", "/u"], "mounts",
         (Mount("tmpfs", "/t", "", True, ("size=1m",)), Mount("tmpfs", "/u"))),
        (["-p", "80"], "ports", (Port(80, 0),)),
        (["-p", "8080:80/udp", "-p", "[::1]:81:81"], "ports", (Port(80, 8080, "", "udp"), Port(81, 81, "::1"))),
        (["-p", "127.0.0.1:10-11:20-21"], "ports", (Port(20, 10, "127.0.0.1"), Port(21, 11, "127.0.0.1"))),
        (["-p", "80"], "network", "bridge"),
        (["-p", "80", "--network", "web"], "network", "web"),
        ([], "network", "host"),
        (["--network", "none"], "network", "none"),
        (["--add-host", "db:10.0.0.7", "--add-host", "six:::1"], "hosts", ("10.0.0.7\tdb", "::1\tsix")),
        (["--cap-add", "net_admin", "--cap-drop", "ALL"], "security",
         Security(cap_add=("CAP_NET_ADMIN",), cap_drop=("ALL",))),
        (["--security-opt", "no-new-privileges"], "security", Security(no_new_privileges=True)),
        (["--security-opt", "no-new-privileges:false", "--security-opt", "seccomp:unconfined"], "security",
         Security(seccomp="unconfined")),
        (["--security-opt", "seccomp=/p", "--userns", "auto"], "security", Security(seccomp="/p", userns="auto")),
        (["--privileged"], "security", Security(privileged=True)),
        (["--entrypoint", "a 'b c'"], "entrypoint", ("a", "b c")),
        (["--entrypoint", ""], "entrypoint", ()),
        ([], "entrypoint", None),
        (["-l", "a=1", "--label", "b", "-l", "c=d=e"], "labels", {"a": "1", "b": "", "c": "d=e"}),
        (["--restart", "on-failure:3"], "restart", Restart("on-failure", 3)),
        (["--restart", "unless-stopped"], "restart", Restart("unless-stopped")),
        (["--rm", "--restart", "no"], "remove", True),
        (["--stop-signal", "sigrtmin+3"], "stop_signal", "SIGRTMIN+3"),
        (["--stop-timeout", "1m"], "stop_timeout", 60.0),
        (["--autocommit", "every=90s"], "autocommit", "every=90"),
        (["--autocommit", "exit"], "autocommit", "exit"),
        (["--volatile"], "volatile", True),
        (["--no-log"], "log", Log(keep=False)),
        (["--log-size", "1m", "--log-files", "2"], "log", Log(size=1 << 20, files=2)),
        (["--no-healthcheck"], "health", Health(("NONE",))),
        (["--health-cmd", "ping", "--health-interval", "1s", "--health-retries", "5"], "health",
         Health(("CMD-SHELL", "ping"), interval=1.0, retries=5)),
        ([], "health", None),
    ],
)  # fmt: skip
def test_what_options_come_to(words: list[str], field: str, value: Any) -> None:
    assert getattr(asked(*words), field) == value


def test_sources_are_from_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mounts = asked("-v", "./data:/a", "-v", "x/../y:/b", "--mount", "src=z,dst=/c").mounts
    assert [mount.source for mount in mounts] == [f"{tmp_path}/data", f"{tmp_path}/y", f"{tmp_path}/z"]


def test_a_commits_health_check_is_changed_in_parts() -> None:
    image = {"config": {"Healthcheck": {"Test": ["CMD", "up"], "Interval": 7_000_000_000}}}
    assert asked("--health-timeout", "2s", image=image).health == Health(("CMD", "up"), interval=7.0, timeout=2.0)
    assert asked(image=image).health is None, "the commit's own"


def test_label_files(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("# note\na=1\nb=2 3\n")
    assert asked("--label-file", str(tmp_path / "labels"), "-l", "a=x").labels == {"a": "x", "b": "2 3"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "lots"], "'lots' is no size: write a number with k, m or g, such as 512m"),
        (["-m", "9" * 400], "is no size"),
        (["-m", "999999999t"], "is no size"),
        (["-m", "1k"], "too little memory: 6m is the least"),
        (["--cpus", "nan"], "'nan' is no number of processors"),
        (["--cpus", "0"], "write one from 0.01 on"),
        (["--pids-limit", "some"], "'some' is no number of processes"),
        (["-v", "/only"], "write SOURCE:TARGET[:ro]"),
        (["-v", "data:/data"], "there are no named volumes: write ./data:/data"),
        (["-v", "/a:b"], "'b' must be an absolute path in the container"),
        (["-v", "/a:/b:rw,exotic"], "'exotic' in '/a:/b:rw,exotic' is no option of a mount"),
        (["-v", "/a:/proc/x"], "nothing can be mounted at /proc/x"),
        (["-v", "/a:/"], "nothing can be mounted at /"),
        (["-v", "/a:/x/.."], "nothing can be mounted at /"),
        (["--tmpfs", "//sys"], "nothing can be mounted at /sys"),
        (["-v", "/a:/b", "--tmpfs", "/b/"], "two mounts are asked for at /b"),
        (["--mount", "type=volume,dst=/a"], "'volume' is no type of mount here"),
        (["--mount", "dst=/a"], "is not whole: write type=bind,source=PATH,target=PATH"),
        (["--mount", "type=tmpfs,src=/x,dst=/a"], "is not whole"),
        (["--mount", "src=/a,dst=/b,src=/c"], "has source twice"),
        (["--mount", "src=/a,dst=/b,readonly=maybe"], "must be true or false"),
        (["--mount", "src=/a,dst=/b,tmpfs-size=1m"], "'tmpfs-size=1m' in"),
        (["--tmpfs", "/a:size"], "is no option of a tmpfs"),
        (["-p", "http"], "'http' in 'http' is no port"),
        (["-p", "80/sctp"], "'sctp' in '80/sctp' is no protocol: write tcp or udp"),
        (["-p", "0:80"], "ports of 1 to 65535"),
        (["-p", "70000"], "ports of 1 to 65535"),
        (["-p", "10-12:20-21"], "not of the same length"),
        (["-p", "here:80:80"], "'here' in 'here:80:80' is no address"),
        (["-p", "80", "--network", "host"], "--network bridge, not host"),
        (["--network", "no name"], "cannot be a network's name"),
        (["--hostname", "a b"], "cannot be a host name"),
        (["--hostname", "x" * 65], "cannot be a host name"),
        (["--add-host", "db"], "write NAME:ADDRESS, such as db:10.0.0.7"),
        (["--cap-add", "NETADMIN"], "'NETADMIN' is no capability"),
        (["--security-opt", "label=disable"], "write no-new-privileges, seccomp=unconfined or seccomp=FILE"),
        (["--security-opt", "seccomp="], "write no-new-privileges"),
        (["--privileged", "--userns", "auto"], "--privileged does not go with --userns auto"),
        (["--userns", "keep-id"], "'keep-id' is not one of 'host', 'auto'"),
        (["--restart", "sometimes"], "write no, on-failure, on-failure:3, always or unless-stopped"),
        (["--restart", "always:3"], "'always:3' is no policy"),
        (["--rm", "--restart", "always"], "--rm does not go with --restart"),
        (["--entrypoint", "a 'b"], "cannot be read as a shell would"),
        (["-l", "=x"], "has no name: write NAME=VALUE"),
        (["--stop-signal", "HALT"], "'HALT' is no signal"),
        (["--stop-timeout", "soon"], "write it such as 30s, 5m or 1h30m"),
        (["--autocommit", "always"], "write every=30s, exec or exit"),
        (["--autocommit", "every=10ms"], "every=1s is the least"),
        (["--health-interval", "1s"], "the commit has no health check: say with --health-cmd what to run"),
        (["--no-healthcheck", "--health-cmd", "x"], "--no-healthcheck does not go"),
        (["--no-log", "--log-files", "2"], "--no-log does not go"),
        (["--log-files", "0"], "0 is not in the range x>=1"),
        (["-e", "=x"], "has no name"),
    ],
)
def test_what_is_wrong_is_said_with_how_to_write_it(cli: Cli, words: list[str], said: str) -> None:
    error = cli.error("create", *words, "main", "true", code=2)
    assert said in error["message"]
    assert "\n" not in error["message"]
    assert cli.lines("ps", "-aq") == []


@given(st.text(max_size=20))
def test_no_text_makes_them_fail_otherwise(text: str) -> None:
    for read in (
        specs.size, specs.memory, specs.cpus, specs.pids, specs.duration, specs.volume, specs.mount, specs.tmpfs,
        specs.ports, specs.host_line, specs.hostname, specs.network, specs.restart, specs.label, specs.autocommit,
        specs.stop_signal, specs.entrypoint, specs.mount_target,
    ):  # fmt: skip
        with contextlib.suppress(ValueError):
            read(text)
