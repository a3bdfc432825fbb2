"""A tiny root filesystem for tests that run real containers: Debian's busybox-static with links for its applets."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
APPLETS = """
    cat chmod chown dd echo env false grep head hostname id ip kill ln ls mkdir mknod mount mv nc ping printf ps pwd
    readlink rm seq sh sleep stat stty touch true tty wc yes
"""

_PASSWD = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/usr/sbin:/bin/sh\nana:x:1000:1000:Ana:/home/ana:/bin/sh\n"
_GROUP = "root:x:0:\ndaemon:x:1:\nana:x:1000:\nwheel:x:10:ana,daemon\nvideo:x:44:ana\n"


def make_busybox_root(path: Path, bare: bool = False) -> Path:
    """Make a root at `path`. `bare` leaves out everything that a runtime mounts over: /proc, /dev, /sys, /etc/hosts."""
    for name in ("bin", "etc", "tmp", "root", "home/ana", *(() if bare else ("proc", "dev", "sys"))):
        (path / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(BUSYBOX, path / "bin/busybox")
    for applet in APPLETS.split():
        (path / "bin" / applet).symlink_to("busybox")
    (path / "etc/passwd").write_text(_PASSWD)
    (path / "etc/group").write_text(_GROUP)
    if not bare:
        for name in ("hosts", "hostname", "resolv.conf"):
            (path / "etc" / name).write_text(f"the root's {name}\n")
    (path / "tmp").chmod(0o1777)
    os.chown(path / "home/ana", 1000, 1000)
    return path
