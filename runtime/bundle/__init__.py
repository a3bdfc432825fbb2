"""From what a user asked for and what an image says to the OCI runtime's config.json. Pure: values in, a dict out.

    spec           one start of a container, and what it takes from the machine
    config         the whole of config.json
    mounts         what is mounted over the root, in which order, and what must exist for it
    capabilities   all that Linux knows, Docker's fourteen, and what a container gets of them
    resources      limits, and which devices may be used
    etc            the content of /etc/hosts, /etc/hostname and /etc/resolv.conf

The result is what Docker's users expect (capabilities, masked paths, mounts, devices, environment), in the terms of
the OCI runtime specification 1.0 (config.md, config-linux.md). docs/security.md has the reasons.
"""

from runtime.bundle.capabilities import DEFAULT_CAPABILITIES, granted
from runtime.bundle.config import config
from runtime.bundle.etc import etc_files
from runtime.bundle.mounts import ETC_FILES, mount_targets
from runtime.bundle.spec import Connection, Host, LaunchSpec, Source
from runtime.imageconfig import DEFAULT_PATH

__all__ = [
    "DEFAULT_CAPABILITIES",
    "DEFAULT_PATH",
    "ETC_FILES",
    "Connection",
    "Host",
    "LaunchSpec",
    "Source",
    "config",
    "etc_files",
    "granted",
    "mount_targets",
]
