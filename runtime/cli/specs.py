"""What options of containers mean, word by word: `8080:80`, `/srv:/data:ro`, `512m` -> values of runtime.settings.

Pure but for make_absolute(). Each raises ValueError with a text that says what is wrong and how to write it.
"""

from __future__ import annotations

import math
import os
import posixpath
import re
import shlex
from ipaddress import ip_address
from typing import Literal, cast, get_args

from runtime.imageconfig import signal_number
from runtime.settings import Mount, Port, Restart, RestartPolicy
from vcs.errors import BadInput

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_LEAST_MEMORY = 6 << 20
"""Docker's: below it not even an engine fits."""
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_TRUE = {"": True, "true": True, "1": True, "false": False, "0": False}
_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_FLAGS = ("exec", "noexec", "suid", "nosuid", "dev", "nodev")
_IGNORED = ("z", "Z", "rw", "cached", "delegated", "consistent", "nocopy")
"""Of -v: the default, SELinux's labels, and what only means something elsewhere."""
_TMPFS_VALUES = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks")


# -- numbers


def size(text: str) -> int:
    """Bytes.

    >>> size("512m"), size("1.5G"), size("64KiB")
    (536870912, 1610612736, 65536)
    """
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?:([kmgt])(?:i?b)?|b)?", text.strip().lower())
    if not found or float(found[1]) * _UNITS[found[2] or ""] >= 1 << 62:
        raise ValueError(f"{text!r} is no size: write a number with k, m or g, such as 512m")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def memory(text: str) -> int:
    """Bytes, of --memory."""
    wanted = size(text)
    if wanted < _LEAST_MEMORY:
        raise ValueError(f"{text!r} is too little memory: 6m is the least")
    return wanted


def cpus(text: str) -> float:
    """Processors."""
    try:
        wanted = float(text)
    except ValueError:
        wanted = 0.0
    if not (wanted >= 0.01 and math.isfinite(wanted)):
        raise ValueError(f"{text!r} is no number of processors: write one from 0.01 on, such as 1.5")
    return wanted


def pids(text: str) -> int | None:
    """Processes and threads; None (0 or -1, as with Docker) for as many as there can be."""
    try:
        wanted = int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number of processes: write one such as 100, or 0 for no limit") from None
    if wanted < -1:
        raise ValueError(f"{text!r} is no number of processes: write one such as 100, or 0 for no limit")
    return wanted if wanted > 0 else None


def duration(text: str) -> float:
    """Seconds.

    >>> duration("30s"), duration("1h30m"), duration("250ms"), duration("5")
    (30.0, 5400.0, 0.25, 5.0)
    """
    parts = re.findall(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|[smh])", text)
    if text and "".join(map("".join, parts)) == text:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return float(text)
    raise ValueError(f"{text!r} is no length of time: write it such as 30s, 5m or 1h30m")


# -- mounts


def volume(text: str) -> Mount:
    """-v SOURCE:TARGET[:OPTION,...]. The source is as it was written.

    >>> volume("/srv:/data:ro")
    Mount(kind='bind', target='/data', source='/srv', read_only=True, options=())
    """
    source, colon, rest = text.partition(":")
    target, _, options = rest.partition(":")
    if not colon or not source or not target:
        raise ValueError(f"{text!r} needs a path on the machine and one in the container: write SOURCE:TARGET[:ro]")
    if not source.startswith(("/", ".", "~")) and "/" not in source:
        raise ValueError(
            f"{source!r} is no path, and there are no named volumes: write ./{source}:{target} for a directory here"
        )
    kept: list[str] = []
    read_only = False
    for option in filter(None, options.split(",")):
        if option == "ro":
            read_only = True
        elif option in (*_PROPAGATION, *_FLAGS):
            kept.append(option)
        elif option not in _IGNORED:
            raise ValueError(
                f"{option!r} in {text!r} is no option of a mount: ro, rw, rshared, rslave, noexec are some"
            )
    return Mount("bind", mount_target(target), source, read_only, tuple(kept))


def mount(text: str) -> Mount:
    """--mount type=bind,source=SOURCE,target=TARGET[,readonly], or type=tmpfs,target=TARGET[,tmpfs-size=SIZE].

    >>> mount("type=tmpfs,dst=/run,tmpfs-size=64m")
    Mount(kind='tmpfs', target='/run', source='', read_only=False, options=('size=67108864',))
    """
    fields: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        name = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}.get(name, name)
        if name in fields:
            raise ValueError(f"{text!r} has {name} twice")
        fields[name] = value
    kind = fields.pop("type", "bind")
    if kind not in ("bind", "tmpfs"):
        raise ValueError(f"{kind!r} is no type of mount here: write type=bind or type=tmpfs")
    target = fields.pop("target", "")
    source = fields.pop("source", "")
    if not target or (kind == "bind") != bool(source):
        raise ValueError(f"{text!r} is not whole: write type=bind,source=PATH,target=PATH or type=tmpfs,target=PATH")
    read_only = _flag(text, "readonly", fields.pop("readonly", "false"))
    fields.pop("consistency", None)
    options = [_mount_option(text, kind, name, value) for name, value in fields.items()]
    return Mount("bind" if kind == "bind" else "tmpfs", mount_target(target), source, read_only, tuple(options))


def _mount_option(text: str, kind: str, name: str, value: str) -> str:
    match kind, name:
        case "bind", "bind-propagation" if value in _PROPAGATION:
            return value
        case "tmpfs", "tmpfs-size":
            return f"size={size(value)}"
        case "tmpfs", "tmpfs-mode" if re.fullmatch("[0-7]{1,4}", value):
            return f"mode={value}"
    shown = f"{name}={value}" if value else name
    raise ValueError(f"{shown!r} in {text!r} is not known for type={kind}")


def _flag(text: str, name: str, value: str) -> bool:
    if value.lower() not in _TRUE:
        raise ValueError(f"{name}={value} in {text!r} must be true or false")
    return _TRUE[value.lower()]


def tmpfs(text: str) -> Mount:
    """--tmpfs TARGET[:OPTION,...].

    >>> tmpfs("/run:size=64m,exec")
    Mount(kind='tmpfs', target='/run', source='', read_only=False, options=('size=64m', 'exec'))
    """
    target, _, rest = text.partition(":")
    options = [option for option in rest.split(",") if option and option != "rw"]
    for option in options:
        name, equals, value = option.partition("=")
        if option != "ro" and option not in _FLAGS and not (name in _TMPFS_VALUES and equals and value):
            raise ValueError(f"{option!r} in {text!r} is no option of a tmpfs: size=64m, mode=755, exec, ro are some")
    kept = tuple(option for option in options if option != "ro")
    return Mount("tmpfs", mount_target(target), "", "ro" in options, kept)


def mount_target(text: str) -> str:
    """A path in the container at which something may be mounted, without needless parts."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} must be an absolute path in the container, such as /data")
    target = posixpath.normpath("/" + text.lstrip("/"))
    if target in ("/", "/dev", "/proc", "/sys") or target.startswith(("/proc/", "/sys/")):
        raise ValueError(f"nothing can be mounted at {target}: /, /dev, all of /proc and /sys are the container's own")
    return target


def make_absolute(source: str) -> str:
    """A path on the machine, from the current directory on."""
    return os.path.abspath(os.path.expanduser(source))


# -- network


def ports(text: str) -> list[Port]:
    """-p [ADDRESS:][HOST:]CONTAINER[/tcp|udp], each a number or a range.

    >>> ports("127.0.0.1:8080:80")
    [Port(container=80, host=8080, address='127.0.0.1', protocol='tcp')]
    >>> ports("53/udp")
    [Port(container=53, host=0, address='', protocol='udp')]
    """
    rest, slash, protocol = text.partition("/")
    if protocol not in ("tcp", "udp") and slash:
        raise ValueError(f"{protocol!r} in {text!r} is no protocol: write tcp or udp")
    before, _, inside = rest.rpartition(":")
    if before.startswith("["):
        address, _, outside = before.removeprefix("[").partition("]")
        outside = outside.removeprefix(":")
    else:
        address, _, outside = before.rpartition(":")
    if address:
        try:
            ip_address(address)
        except ValueError:
            raise ValueError(f"{address!r} in {text!r} is no address: write one such as 127.0.0.1 or [::1]") from None
    containers = _range(text, inside)
    hosts = _range(text, outside) if outside else [0] * len(containers)
    if len(hosts) != len(containers):
        raise ValueError(f"the two ranges in {text!r} are not of the same length")
    kind: Literal["tcp", "udp"] = "udp" if protocol == "udp" else "tcp"
    return [Port(inner, outer, address, kind) for inner, outer in zip(containers, hosts, strict=True)]


def _range(text: str, part: str) -> list[int]:
    found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last <= 65535:
        raise ValueError(
            f"{part!r} in {text!r} is no port: write [ADDRESS:][HOST:]CONTAINER[/udp] with ports of 1 to 65535"
        )
    return list(range(first, last + 1))


def host_line(text: str) -> str:
    """--add-host NAME:ADDRESS -> a line of /etc/hosts.

    >>> host_line("db:10.0.0.7")
    '10.0.0.7\\tdb'
    """
    name, _, address = text.replace("=", ":", 1).partition(":")
    try:
        ip_address(address.strip("[]"))
    except ValueError:
        name = ""
    if not name or re.search(r"\s", text):
        raise ValueError(f"{text!r} is no name with an address: write NAME:ADDRESS, such as db:10.0.0.7")
    return f"{address.strip('[]')}\t{name}"


def hostname(text: str) -> str:
    """--hostname."""
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?", text):
        raise ValueError(f"{text!r} cannot be a host name: it has up to 64 letters, digits, dots and dashes")
    return text


def network(text: str) -> str:
    """--network."""
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}", text):
        raise ValueError(f"{text!r} cannot be a network's name: host, none, bridge, or one that was made")
    return text


# -- the rest


def restart(text: str) -> Restart:
    """--restart.

    >>> restart("on-failure:3")
    Restart(policy='on-failure', attempts=3)
    """
    policy, colon, count = text.partition(":")
    bounded = policy == "on-failure" and count.isdecimal()
    if policy not in get_args(RestartPolicy) or (colon and not bounded):
        raise ValueError(f"{text!r} is no policy: write no, on-failure, on-failure:3, always or unless-stopped")
    return Restart(cast(RestartPolicy, policy), int(count) if bounded else 0)


def label(text: str) -> tuple[str, str]:
    """-l NAME[=VALUE]."""
    name, _, value = text.partition("=")
    if not name.strip():
        raise ValueError(f"{text!r} has no name: write NAME=VALUE")
    return name, value


def autocommit(text: str) -> str:
    """--autocommit, as Settings keeps it.

    >>> autocommit("every=5m"), autocommit("exec")
    ('every=300', 'exec')
    """
    if text in ("exec", "exit"):
        return text
    if not text.startswith("every="):
        raise ValueError(f"{text!r} is not known: write every=30s, exec or exit")
    seconds = duration(text.removeprefix("every="))
    if seconds < 1:
        raise ValueError(f"{text!r} is too often: every=1s is the least")
    return f"every={seconds:g}" if seconds < 1e6 else f"every={int(seconds)}"


def stop_signal(text: str) -> str:
    """--stop-signal.

    >>> stop_signal("quit"), stop_signal("12")
    ('SIGQUIT', '12')
    """
    try:
        signal_number(text)
    except BadInput as error:
        raise ValueError(str(error)) from None
    return text if text.isdecimal() else f"SIG{text.upper().removeprefix('SIG')}"


def entrypoint(text: str) -> tuple[str, ...]:
    """--entrypoint, quoted as for a shell; () for none at all.

    >>> entrypoint("sh -c 'echo $0'"), entrypoint("")
    (('sh', '-c', 'echo $0'), ())
    """
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"{text!r} cannot be read as a shell would: {error}") from None


def security_options(texts: tuple[str, ...]) -> dict[str, str | bool]:
    """--security-opt, all of them: fields of settings.Security."""
    return dict(_security_option(text) for text in texts)


def _security_option(text: str) -> tuple[str, str | bool]:
    name, _, value = text.partition("=" if "=" in text else ":")  # Docker's older way to write it
    match name:
        case "no-new-privileges":
            return "no_new_privileges", _flag(text, name, value)
        case "seccomp" if value:
            return "seccomp", value if value == "unconfined" else make_absolute(value)
    raise ValueError(f"{text!r} is not known: write no-new-privileges, seccomp=unconfined or seccomp=FILE")
