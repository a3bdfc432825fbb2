"""Changes to an image config, written as lines of a Dockerfile: `commit --change 'CMD ["nginx"]'`. Pure.

    CMD, ENTRYPOINT    ["word", ...] as it is, anything else for /bin/sh -c. A new entrypoint drops the image's Cmd,
                       unless a CMD is among the changes
    ENV, LABEL         NAME=VALUE..., quoted as in a shell; or NAME VALUE
    EXPOSE, VOLUME     80 53/udp; /data /log, or a JSON array
    USER, WORKDIR, STOPSIGNAL
    HEALTHCHECK        [--interval=30s --timeout= --start-period= --retries=] CMD ..., or NONE

What they mean is what the Dockerfile reference says; a relative WORKDIR goes on from the one before.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from runtime.imageconfig import words
from vcs.errors import BadInput

Section = dict[str, Any]
_LINE = re.compile(r"\s*([A-Za-z]+)\s+(.*\S)\s*", re.DOTALL)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PORT = re.compile(r"\d+(-\d+)?(/(tcp|udp|sctp))?")
_FLAG = re.compile(r"--(interval|timeout|start-period|start-interval|retries)=(\S+)\s+")
_TIMES = {
    "interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod", "start-interval": "StartInterval",
}  # fmt: skip


def image_change(lines: Sequence[str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What these lines make of an image config, which is not changed itself. BadInput if one makes no sense."""
    parsed = [_parsed(line) for line in lines]

    def change(config: dict[str, Any]) -> dict[str, Any]:
        inner = config.get("config")
        section: Section = dict(inner) if isinstance(inner, dict) else {}
        if any(word == "ENTRYPOINT" for word, _, _ in parsed):
            section.pop("Cmd", None)
        for word, rest, line in parsed:
            try:
                _WORDS[word](section, rest)
            except (ValueError, TypeError) as error:
                raise BadInput(f"{line!r} is no change: {error}", change=line) from None
        return {**config, "config": section}

    change({})  # complaints come now, and not after a container has been read
    return change


def _parsed(line: str) -> tuple[str, str, str]:
    found = _LINE.fullmatch(line)
    word = found[1].upper() if found else ""
    if found is None or word not in _WORDS:
        raise BadInput(f"{line!r} is no change: it begins with one of {', '.join(_WORDS)}", change=line)
    return word, found[2], line


def _cmd(section: Section, rest: str) -> None:
    section["Cmd"] = _command(rest)


def _entrypoint(section: Section, rest: str) -> None:
    section["Entrypoint"] = _command(rest)


def _env(section: Section, rest: str) -> None:
    variables = dict(item.partition("=")[::2] for item in words(section.get("Env")))
    variables.update(_pairs(rest))
    section["Env"] = [f"{name}={value}" for name, value in variables.items()]


def _label(section: Section, rest: str) -> None:
    section["Labels"] = {**(section.get("Labels") or {}), **_pairs(rest)}


def _expose(section: Section, rest: str) -> None:
    ports = rest.split()
    if wrong := [port for port in ports if not _PORT.fullmatch(port)]:
        raise ValueError(f"{wrong[0]!r} is no port")
    added: Section = {port if "/" in port else f"{port}/tcp": {} for port in ports}
    section["ExposedPorts"] = {**(section.get("ExposedPorts") or {}), **added}


def _volume(section: Section, rest: str) -> None:
    paths = _array(rest) or shlex.split(rest)
    section["Volumes"] = {**(section.get("Volumes") or {}), **{path: {} for path in paths}}


def _user(section: Section, rest: str) -> None:
    section["User"] = rest


def _workdir(section: Section, rest: str) -> None:
    path = posixpath.normpath(posixpath.join("/", section.get("WorkingDir") or "", rest))
    section["WorkingDir"] = "/" + path.lstrip("/")


def _stop_signal(section: Section, rest: str) -> None:
    if not re.fullmatch(r"\d+|(SIG)?[A-Z][A-Z0-9+-]*", rest):
        raise ValueError(f"{rest!r} is no signal")
    section["StopSignal"] = rest


def _health(section: Section, rest: str) -> None:
    check: Section = {}
    while flag := _FLAG.match(rest):
        if flag[1] == "retries":
            check["Retries"] = int(flag[2])
        else:
            check[_TIMES[flag[1]]] = _duration(flag[2])
        rest = rest[flag.end() :]
    word, _, command = rest.partition(" ")
    if word.upper() == "NONE" and not command and not check:
        check["Test"] = ["NONE"]
    elif word.upper() == "CMD" and command.strip():
        words = _array(command.strip())
        check["Test"] = ["CMD", *words] if words else ["CMD-SHELL", command.strip()]
    else:
        raise ValueError("write HEALTHCHECK CMD COMMAND, or HEALTHCHECK NONE")
    section["Healthcheck"] = check


_WORDS: dict[str, Callable[[Section, str], None]] = {
    "CMD": _cmd, "ENTRYPOINT": _entrypoint, "ENV": _env, "EXPOSE": _expose, "LABEL": _label, "USER": _user,
    "WORKDIR": _workdir, "VOLUME": _volume, "STOPSIGNAL": _stop_signal, "HEALTHCHECK": _health,
}  # fmt: skip


def _command(text: str) -> list[str]:
    words = _array(text)
    return ["/bin/sh", "-c", text] if words is None else words


def _array(text: str) -> list[str] | None:
    """A JSON array of strings; None if it is none."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return None
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def _pairs(text: str) -> dict[str, str]:
    words = shlex.split(text)
    if words and "=" not in words[0]:
        name, _, value = text.partition(" ")
        if not value.strip():
            raise ValueError(f"{name!r} has no value: write {name}=VALUE")
        return {name: value.strip()}
    pairs = [word.partition("=") for word in words]
    if not pairs or not all(name and equals for name, equals, _ in pairs):
        raise ValueError("write NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _duration(text: str) -> int:
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no time: write 30s or 1m30s")
    return round(sum(float(number) * _NANOSECONDS[unit] for number, unit in parts))
