"""What holds for a container when its settings and its image's config are put together. Pure.

An image config is OCI's or Docker's (image-spec config.md): the commit's config.json. What a user set wins, the image
decides the rest; labels and variables are merged by name. Malformed members count as missing: a commit's config may
come from anywhere.

    Entrypoint Cmd Env User WorkingDir    what runs: command(), environment(), user(), working_directory()
    StopSignal                            stop_signal()
    Healthcheck (nanoseconds)             health()
    Labels                                labels()
    ExposedPorts                          exposed_ports()
    Volumes                               not used: what a container writes there is in its upper, and committed
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from runtime.settings import Health, Settings
from vcs.errors import BadInput, EngineError

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_STOP_SIGNAL = "SIGTERM"
DEFAULT_STOP_TIMEOUT = 10.0
"""Seconds."""
_SECOND = 1e9
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386"}
"""uname's names for what OCI image configs name as Go does."""


class Asked(Protocol):
    """The settings that say what runs; Settings and LaunchSpec have them."""

    @property
    def args(self) -> tuple[str, ...]: ...
    @property
    def entrypoint(self) -> tuple[str, ...] | None: ...
    @property
    def env(self) -> tuple[str, ...]: ...
    @property
    def cwd(self) -> str | None: ...
    @property
    def user(self) -> str | None: ...
    @property
    def tty(self) -> bool: ...


def machine_architecture() -> str:
    """This machine's, as image configs name it."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def section(image: Mapping[str, Any]) -> Mapping[str, Any]:
    """The run parameters of an image config: its `config` member, or the dict itself if it has none."""
    found = image.get("config", image)
    return found if isinstance(found, Mapping) else {}


def command(asked: Asked, image: Mapping[str, Any]) -> list[str]:
    """Entrypoint and arguments. An entrypoint of the user's own drops the image's Cmd, as with Docker. EngineError if
    there is nothing to run."""
    inner = section(image)
    if asked.entrypoint is not None:
        args = [*asked.entrypoint, *asked.args]
    else:
        entrypoint = words(inner.get("Entrypoint"))
        if entrypoint[:1] == ("",):  # what Docker's clients write for none at all
            entrypoint = ()
        args = [*entrypoint, *(asked.args or words(inner.get("Cmd")))]
    if not args or not args[0]:
        raise EngineError("no command was given and the image has none")
    return args


def environment(asked: Asked, image: Mapping[str, Any], hostname: str, home: str) -> list[str]:
    """PATH, HOSTNAME, TERM and HOME as defaults, the image's over them, the user's over all."""
    merged = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if asked.tty:
        merged["TERM"] = "xterm"
    merged["HOME"] = home
    for item in (*words(section(image).get("Env")), *asked.env):
        name, equals, value = item.partition("=")
        if equals and name:
            merged[name] = value
    return [f"{name}={value}" for name, value in merged.items()]


def working_directory(asked: Asked, image: Mapping[str, Any]) -> str:
    """Absolute; `/` if nobody said otherwise."""
    return "/" + (asked.cwd or _text(section(image).get("WorkingDir")) or "/").strip("/")


def user(asked: Asked, image: Mapping[str, Any]) -> str:
    """The user as written, for `identity.resolve_user`."""
    return asked.user if asked.user is not None else _text(section(image).get("User"))


def labels(settings: Settings, image: Mapping[str, Any]) -> dict[str, str]:
    """The image's labels, the container's over them."""
    found = section(image).get("Labels")
    own = {str(name): str(value) for name, value in found.items()} if isinstance(found, Mapping) else {}
    return {**own, **settings.labels}


def stop_signal(settings: Settings, image: Mapping[str, Any]) -> str:
    """The name or number of the signal that asks the container to end, as it is written."""
    return settings.stop_signal or _text(section(image).get("StopSignal")) or DEFAULT_STOP_SIGNAL


def signal_number(text: str) -> int:
    """A signal as people write it -> its number. BadInput if there is none such.

    >>> signal_number("TERM"), signal_number("sigkill"), signal_number("SIGRTMIN+3") == signal.SIGRTMIN + 3
    (15, 9, True)
    """
    found = re.fullmatch(r"(?:SIG)?([A-Z][A-Z0-9]*|\d{1,9})(?:([+-])(\d{1,9}))?|", text.upper(), re.ASCII)
    base, sign, offset = found.groups("") if found else ("", "", "")
    number = int(base) if base.isdecimal() else int(getattr(signal, f"SIG{base}", 0) or 0)
    if sign and base in ("RTMIN", "RTMAX"):
        number += int(f"{sign}{offset}")
    elif sign:
        number = 0
    if number not in signal.valid_signals():
        raise BadInput(f"{text!r} is no signal: write one such as SIGTERM, QUIT or 15", signal=text)
    return number


def stop_timeout(settings: Settings) -> float:
    """Seconds from that signal until SIGKILL."""
    return DEFAULT_STOP_TIMEOUT if settings.stop_timeout is None else settings.stop_timeout


def health(settings: Settings, image: Mapping[str, Any]) -> Health | None:
    """How the container's health is looked after; None if not at all."""
    found = settings.health or image_health(image)
    return None if found is None or found.test[:1] in ((), ("NONE",)) else found


def image_health(image: Mapping[str, Any]) -> Health | None:
    """The image's Healthcheck, whose times are in nanoseconds and whose zeros mean: as by default.

    >>> image_health({"config": {"Healthcheck": {"Test": ["CMD", "true"], "Interval": 5000000000}}}).interval
    5.0
    """
    found = section(image).get("Healthcheck")
    if not isinstance(found, Mapping) or not (test := words(found.get("Test"))):
        return None
    usual = Health(tuple(test))

    def seconds(name: str, default: float) -> float:
        value = found.get(name)
        return value / _SECOND if isinstance(value, (int, float)) and value > 0 else default

    retries = found.get("Retries")
    return Health(
        tuple(test),
        interval=seconds("Interval", usual.interval),
        timeout=seconds("Timeout", usual.timeout),
        start_period=seconds("StartPeriod", usual.start_period),
        retries=retries if isinstance(retries, int) and retries > 0 else usual.retries,
    )


def exposed_ports(image: Mapping[str, Any]) -> list[str]:
    """The ports that the image says it listens on, such as `80/tcp`, in order."""
    found = section(image).get("ExposedPorts")
    ports = [str(port) for port in found] if isinstance(found, (Mapping, Sequence)) and found != "" else []
    return sorted(ports, key=lambda port: (len(port.partition("/")[0]), port))


def words(value: Any) -> tuple[str, ...]:
    """The members of a list; none of what is no list."""
    return tuple(map(str, value)) if isinstance(value, (list, tuple)) else ()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
