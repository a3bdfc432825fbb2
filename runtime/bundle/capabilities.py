"""Linux's capabilities (capabilities(7), linux/capability.h), and which of them a container gets."""

from __future__ import annotations

from runtime.settings import Security
from vcs.errors import BadInput, EngineError

_NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
CAPABILITIES = tuple(f"CAP_{name}" for name in _NAMES)
"""All, each at the place that is its number."""

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

ALL = "ALL"


def capability(text: str) -> str:
    """A capability's name as a user writes it -> CAP_NAME, or ALL. BadInput if there is none such.

    >>> capability("net_admin"), capability("CAP_SYS_PTRACE"), capability("all")
    ('CAP_NET_ADMIN', 'CAP_SYS_PTRACE', 'ALL')
    """
    name = text.strip().upper()
    if name == ALL:
        return ALL
    name = name if name.startswith("CAP_") else f"CAP_{name}"
    if name not in CAPABILITIES:
        raise BadInput(f"{text!r} is no capability: capabilities(7) lists them, such as NET_ADMIN", capability=text)
    return name


def granted(security: Security, bounding: int) -> list[str]:
    """What a container gets: the default ones, more and fewer as its user asked, as far as they are in a bounding set
    (CapBnd of /proc/self/status), since to ask for others would be fatal.

    EngineError if one that was named in particular is not in it.
    """
    have = {name for number, name in enumerate(CAPABILITIES) if bounding >> number & 1}
    added, dropped = set(map(capability, security.cap_add)), set(map(capability, security.cap_drop))
    if lacking := sorted(added - {ALL} - have):
        raise EngineError(
            f"{lacking[0]} cannot be given to a container: the process that starts it does not have it",
            capability=lacking[0],
        )
    if security.privileged or ALL in added:
        wanted = set(CAPABILITIES)
    else:
        wanted = set() if ALL in dropped else set(DEFAULT_CAPABILITIES)
    if not security.privileged:  # which has all, whatever is dropped, as with Docker
        wanted = (wanted - dropped) | (added - {ALL})
    return sorted(wanted & have)
