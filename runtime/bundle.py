"""From what a user asked for and what an image says to the OCI runtime's config.json. Pure: values in, a dict out.

The result is what Docker's users expect (capabilities, masked paths, mounts, devices, environment), in the terms of
the OCI runtime specification 1.0 (config.md, config-linux.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from runtime.identity import Identity, oci_user
from runtime.state import CGROUP_PREFIX
from runtime.stubs import Target
from vcs.errors import EngineError

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

DEFAULT_CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""Docker's fourteen."""

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_LAST_GROUP = 2147483647
"""As high as net.ipv4.ping_group_range goes."""

Network = Literal["host", "none"]


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """One start of a container, as the user asked for it. None means: as the image says."""

    id: str
    """Names the container to the engine and its cgroup: letters, digits, `_`, `.`, `+`, `-`."""
    hostname: str
    args: tuple[str, ...] = ()
    """Replaces the image's Cmd."""
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    """NAME=value, over the image's."""
    cwd: str | None = None
    user: str | None = None
    tty: bool = False
    interactive: bool = False
    """Pass standard input on; otherwise it is /dev/null."""
    network: Network = "host"
    read_only: bool = False
    engine: str | None = None
    """crun, runc or a path; None for the best there is."""


@dataclass(frozen=True, slots=True)
class Host:
    """What a config takes from the machine and the process that starts it."""

    etc: Path
    """The directory with our hosts, hostname and resolv.conf."""
    rootfs: Path
    seccomp: dict[str, Any]
    """OCI's linux.seccomp, from `seccomp.to_oci`."""
    capabilities: Collection[str]
    """Those that may be granted; normally `grantable(...)` of DEFAULT_CAPABILITIES."""
    open_files: tuple[int, int]
    """RLIMIT_NOFILE, soft and hard, as inherited. Set so that it is passed on as it is, since runc raises its own."""
    terminal_size: tuple[int, int] | None = None
    """Columns and rows."""
    last_ids: tuple[int, int] | None = None
    """In a user namespace, its highest user and group id; None on the machine itself. There, cgroups are not ours."""

    @property
    def confined(self) -> bool:
        """Whether this is a user namespace, whose root is an ordinary user of the machine."""
        return self.last_ids is not None


@dataclass(frozen=True, slots=True)
class _Mount:
    destination: str
    type: str
    source: str
    options: tuple[str, ...]
    is_dir: bool = True


_NO = ("nosuid", "noexec", "nodev")
_TTY_GROUP = 5
_DEVPTS = _Mount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"))
_KERNEL_MOUNTS = (
    _Mount("/proc", "proc", "proc", _NO),
    _Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    replace(_DEVPTS, options=(*_DEVPTS.options, f"gid={_TTY_GROUP}")),
    _Mount("/sys", "sysfs", "sysfs", (*_NO, "ro")),
    _Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*_NO, "relatime", "ro")),
    _Mount("/dev/mqueue", "mqueue", "mqueue", _NO),
    _Mount("/dev/shm", "tmpfs", "shm", (*_NO, "mode=1777", "size=65536k")),
)
_CONFINED = {
    # sysfs shows a network and can only be mounted by who owns it: the machine's is bound here, writable to nobody.
    "/sys": _Mount("/sys", "bind", "/sys", (*_NO, "ro", "rbind", "rprivate")),
    # The cgroups of the machine came with it, and some of them may be the user's to change. There are none inside.
    "/sys/fs/cgroup": _Mount("/sys/fs/cgroup", "tmpfs", "tmpfs", (*_NO, "ro", "size=4k", "mode=755")),
}
"""In a user namespace, instead of those above."""
ETC_FILES = ("resolv.conf", "hostname", "hosts")


def _kernel_mounts(spec: LaunchSpec, host: Host) -> list[_Mount]:
    if not host.confined:
        return list(_KERNEL_MOUNTS)
    other = {**_CONFINED}
    if host.last_ids and host.last_ids[1] < _TTY_GROUP:
        other["/dev/pts"] = _DEVPTS
    if spec.network == "none":
        del other["/sys"]  # with a network of its own it may have a sysfs of its own
    return [other.get(mount.destination, mount) for mount in _KERNEL_MOUNTS]


def _etc_mounts(etc: Path) -> list[_Mount]:
    return [_Mount(f"/etc/{name}", "bind", str(etc / name), ("rbind", "rprivate"), False) for name in ETC_FILES]


def mount_targets(cwd: str) -> list[Target]:
    """What must exist in the root for the mounts and the working directory; `stubs.place` decides where that is."""
    targets = [Target(mount.destination.encode(), mount.is_dir) for mount in (*_KERNEL_MOUNTS, *_etc_mounts(Path("/")))]
    return [*targets, Target(_bytes(cwd), True)]


def image_section(image: Mapping[str, Any]) -> Mapping[str, Any]:
    """The run parameters of an OCI image config: its `config` member, or the dict itself if it has none."""
    section = image.get("config", image)
    return section if isinstance(section, Mapping) else {}


def command(spec: LaunchSpec, image: Mapping[str, Any]) -> list[str]:
    """Entrypoint and arguments. EngineError if there is nothing to run."""
    section = image_section(image)
    if spec.entrypoint is not None:
        args = [*spec.entrypoint, *spec.args]
    else:
        args = [*(section.get("Entrypoint") or ()), *(spec.args or section.get("Cmd") or ())]
    if not args or not args[0]:
        raise EngineError("no command was given and the image has none")
    return args


def environment(spec: LaunchSpec, image: Mapping[str, Any], home: str) -> list[str]:
    """PATH, HOSTNAME, TERM and HOME as defaults, the image's over them, the user's over all."""
    merged = {"PATH": DEFAULT_PATH, "HOSTNAME": spec.hostname}
    if spec.tty:
        merged["TERM"] = "xterm"
    merged["HOME"] = home
    for item in (*(image_section(image).get("Env") or ()), *spec.env):
        name, equals, value = item.partition("=")
        if equals and name:
            merged[name] = value
    return [f"{name}={value}" for name, value in merged.items()]


def working_directory(spec: LaunchSpec, image: Mapping[str, Any]) -> str:
    """Absolute; `/` if nobody said otherwise."""
    return "/" + (spec.cwd or image_section(image).get("WorkingDir") or "/").strip("/")


def user(spec: LaunchSpec, image: Mapping[str, Any]) -> str:
    """The user as written, for `identity.resolve_user`."""
    return spec.user if spec.user is not None else image_section(image).get("User") or ""


def config(
    spec: LaunchSpec, image: Mapping[str, Any], who: Identity, placed: Mapping[bytes, bytes], host: Host
) -> dict[str, Any]:
    """The whole config.json. `placed` tells where mount targets really are (`stubs.place`); others are not mounted."""
    return {
        "ociVersion": "1.0.2",
        "process": _process(spec, image, who, host),
        "root": {"path": str(host.rootfs), "readonly": spec.read_only},
        "hostname": spec.hostname,
        "mounts": [
            _mount(mount, placed[mount.destination.encode()])
            for mount in (*_kernel_mounts(spec, host), *_etc_mounts(host.etc))
            if mount.destination.encode() in placed
        ],
        "linux": _linux(spec, host),
    }


def _mount(mount: _Mount, destination: bytes) -> dict[str, Any]:
    return {
        "destination": destination.decode("utf-8", "surrogateescape"),
        "type": mount.type,
        "source": mount.source,
        "options": list(mount.options),
    }


def _process(spec: LaunchSpec, image: Mapping[str, Any], who: Identity, host: Host) -> dict[str, Any]:
    process: dict[str, Any] = {
        "terminal": spec.tty,
        "user": oci_user(who, host.last_ids),
        "args": command(spec, image),
        "env": environment(spec, image, who.home),
        "cwd": working_directory(spec, image),
        "capabilities": _capabilities(who, sorted(host.capabilities)),
        "noNewPrivileges": False,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": host.open_files[0], "hard": host.open_files[1]}],
    }
    if spec.tty and host.terminal_size:
        process["consoleSize"] = {"width": host.terminal_size[0], "height": host.terminal_size[1]}
    return process


def _capabilities(who: Identity, granted: list[str]) -> dict[str, list[str]]:
    """Root has them; another user has none until it executes a setuid program: what execve(2) itself would leave."""
    usable = granted if who.uid == 0 else []
    return {"bounding": granted, "effective": usable, "permitted": usable}


def _linux(spec: LaunchSpec, host: Host) -> dict[str, Any]:
    namespaces = ["pid", "ipc", "uts", "mount", "cgroup"]
    linux: dict[str, Any] = {
        "maskedPaths": list(MASKED_PATHS),
        "readonlyPaths": list(READONLY_PATHS),
        "seccomp": host.seccomp,
    }
    if not host.confined:  # devices cannot be used there anyway, but for those that the engine binds
        linux["cgroupsPath"] = f"/{CGROUP_PREFIX}{spec.id}"
        linux["resources"] = {"devices": _device_rules()}
    if spec.network == "none":
        namespaces.append("network")
        # In a network of its own a container may listen on any port and ping without privileges, as in Docker.
        groups = f"0 {_LAST_GROUP if host.last_ids is None else host.last_ids[1]}"
        linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": groups}
    linux["namespaces"] = [{"type": name} for name in namespaces]
    return linux


_DEVICES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None))
"""null zero full random urandom tty console ptmx pts/*."""


def _device_rules() -> list[dict[str, Any]]:
    """Nothing but making device nodes, and using the harmless ones."""
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    rules += [{"allow": True, "type": kind, "access": "m"} for kind in "cb"]
    for major, minor in _DEVICES:
        rule: dict[str, Any] = {"allow": True, "type": "c", "major": major, "access": "rwm"}
        if minor is not None:
            rule["minor"] = minor
        rules.append(rule)
    return rules


def grantable(wanted: Sequence[str], bounding: int) -> list[str]:
    """Those of `wanted` that are in a bounding set (CapBnd of /proc/self/status); asking for others would be fatal."""
    return [name for name in wanted if bounding >> _CAPABILITY_BITS[name] & 1]


_CAPABILITY_BITS = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_FSETID": 4,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_RAW": 13,
    "CAP_SYS_CHROOT": 18,
    "CAP_MKNOD": 27,
    "CAP_AUDIT_WRITE": 29,
    "CAP_SETFCAP": 31,
}
"""linux/capability.h."""


def etc_files(hostname: str, resolv_conf: bytes) -> dict[str, bytes]:
    """The content of ETC_FILES for a container. 127.0.1.1 is the container, so that sudo can resolve it."""
    hosts = (
        "127.0.0.1\tlocalhost\n127.0.1.1\t" + hostname + "\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    )
    return {"hosts": hosts.encode(), "hostname": f"{hostname}\n".encode(), "resolv.conf": resolv_conf}


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
