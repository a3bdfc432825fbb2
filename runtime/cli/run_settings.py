"""What the options of `run` and `create` come to: runtime.settings.Settings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from runtime.cli import specs
from runtime.cli.variables import environment_of, file_lines
from runtime.imageconfig import image_health
from runtime.settings import Health, Limits, Log, Mount, Restart, Security, Settings
from vcs.errors import EngineError


def settings_of(asked: Mapping[str, Any], command: tuple[str, ...], image: Mapping[str, Any]) -> Settings:
    """The settings of a container that is made on a commit whose config is `image`.

    click.UsageError if options do not go together.
    """
    if asked["remove"] and asked["restart"] is not None and asked["restart"] != Restart():
        raise click.UsageError("--rm does not go with --restart: a container that is removed cannot start again")
    return Settings(
        args=command[1:] if command[:1] == ("--",) else command,
        env=environment_of(asked["env"], asked["env_files"]),
        cwd=asked["workdir"],
        user=asked["user"],
        hostname=asked["hostname"],
        network=_network(asked),
        tty=asked["tty"],
        interactive=asked["interactive"],
        read_only=asked["read_only"],
        engine=asked["engine"],
        profile=not asked["no_profile"],
        entrypoint=asked["entrypoint"],
        labels=_labels(asked["labels"], asked["label_files"]),
        mounts=_mounts(asked),
        ports=tuple(port for ports in asked["publish"] for port in ports),
        hosts=asked["hosts"],
        limits=Limits(asked["memory"], asked["cpus"], asked["pids_limit"]),
        restart=asked["restart"] or Restart(),
        security=_security(asked),
        health=_health(asked, image),
        log=_log(asked),
        remove=asked["remove"],
        volatile=asked["volatile"],
        stop_signal=asked["stop_signal"],
        stop_timeout=asked["stop_timeout"],
        autocommit=asked["autocommit"],
    )


def check_here(settings: Settings) -> None:
    """EngineError if this machine, or this user, cannot have such a container; asked before it is made."""
    from runtime import seccomp
    from runtime.bundle.resources import check_limits
    from runtime.namespace import in_user_namespace

    confined = in_user_namespace()
    check_limits(settings.limits, confined=confined)
    profile = settings.security.seccomp
    if profile not in (None, seccomp.UNCONFINED):
        seccomp.load_profile(Path(str(profile)))
    if confined and settings.security.userns == "auto":
        raise EngineError(
            "--userns auto is for root: an ordinary user's containers have no ids but those that are his already",
            advice="leave it out: root in the container is you on this machine, and nobody else",
        )


def make_sources(asked: Mapping[str, Any]) -> None:
    """Make the directories that -v names and that are not there, as Docker does. OSError."""
    for mount in asked["volumes"]:
        if not os.path.lexists(source := specs.make_absolute(mount.source)):
            os.makedirs(source)


def _network(asked: Mapping[str, Any]) -> str:
    if not asked["publish"]:
        return asked["network"] or "host"
    if asked["network"] in ("host", "none"):
        raise click.UsageError(
            f"--publish needs a network of the container's own: --network bridge, not {asked['network']}"
        )
    return asked["network"] or "bridge"


def _mounts(asked: Mapping[str, Any]) -> tuple[Mount, ...]:
    found: dict[str, Mount] = {}
    for mount in (*asked["volumes"], *asked["mounts"], *asked["tmpfs"]):
        if mount.target in found:
            raise click.UsageError(f"two mounts are asked for at {mount.target}")
        source = specs.make_absolute(mount.source) if mount.kind == "bind" else ""
        found[mount.target] = Mount(mount.kind, mount.target, source, mount.read_only, mount.options)
    return tuple(found.values())


def _security(asked: Mapping[str, Any]) -> Security:
    if asked["privileged"] and asked["userns"] == "auto":
        raise click.UsageError("--privileged does not go with --userns auto: the devices are the machine's root's")
    try:
        further = specs.security_options(asked["security_opt"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--security-opt'") from None
    return Security(
        cap_add=asked["cap_add"],
        cap_drop=asked["cap_drop"],
        privileged=asked["privileged"],
        no_new_privileges=bool(further.get("no_new_privileges", False)),
        seccomp=str(further["seccomp"]) if "seccomp" in further else None,
        userns=asked["userns"],
    )


def _health(asked: Mapping[str, Any], image: Mapping[str, Any]) -> Health | None:
    """What is asked for, over the commit's health check; None if nothing is."""
    names = {"interval", "timeout", "retries", "start_period"}
    further = {name: value for name in names if (value := asked[f"health_{name}"]) is not None}
    if asked["no_healthcheck"]:
        if further or asked["health_cmd"]:
            raise click.UsageError("--no-healthcheck does not go with other options of a health check")
        return Health(("NONE",))
    if asked["health_cmd"]:
        base: Health | None = Health(("CMD-SHELL", asked["health_cmd"]))
    else:
        base = image_health(image) if further else None
        if further and base is None:
            raise click.UsageError("the commit has no health check: say with --health-cmd what to run")
    return None if base is None else Health(**{**{n: getattr(base, n) for n in names}, **further, "test": base.test})


def _log(asked: Mapping[str, Any]) -> Log:
    usual = Log()
    if asked["no_log"] and (asked["log_size"] or asked["log_files"]):
        raise click.UsageError("--no-log does not go with --log-size and --log-files")
    return Log(not asked["no_log"], asked["log_size"] or usual.size, asked["log_files"] or usual.files)


def _labels(options: Iterable[tuple[str, str]], files: Iterable[Path]) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files:
        for line in file_lines(file):
            try:
                name, value = specs.label(line)
            except ValueError as error:
                raise click.BadParameter(f"{file}: {error}", param_hint="'--label-file'") from None
            found[name] = value
    return {**found, **dict(options)}
