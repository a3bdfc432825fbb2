"""The three files in /etc that are a container's own."""

from __future__ import annotations

from collections.abc import Iterable

_HOSTS = (
    "127.0.0.1\tlocalhost\n127.0.1.1\t{hostname}\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)


def etc_files(hostname: str, resolv_conf: bytes, lines: Iterable[str] = ()) -> dict[str, bytes]:
    """The content of mounts.ETC_FILES for a container. 127.0.1.1 is the container, so that sudo can resolve it, unless
    one of the further `lines` of /etc/hosts says otherwise: they come first, and the first that has a name counts."""
    further = "".join(f"{line.rstrip()}\n" for line in lines)
    hosts = further + _HOSTS.format(hostname=hostname)
    return {"hosts": hosts.encode(), "hostname": f"{hostname}\n".encode(), "resolv.conf": resolv_conf}
