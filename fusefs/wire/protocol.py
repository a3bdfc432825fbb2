"""The numbers of linux/fuse.h that this driver uses, under the header's names less the prefix `FUSE_`."""

from __future__ import annotations

from enum import IntEnum, IntFlag

KERNEL_VERSION = 7
"""The protocol's major version; there is no other."""
KERNEL_MINOR_VERSION = 38
"""The newest minor version that this driver was written against: Linux 6.2. A newer kernel adapts to it."""
OLDEST_MINOR_VERSION = 28
"""Linux 4.20: the first with MAX_PAGES and CACHE_SYMLINKS."""

ROOT_ID = 1
UNKNOWN_INO = 0xFFFFFFFF
"""For a directory's name whose file has no number yet (libfuse's FUSE_UNKNOWN_INO); 0 would hide the name."""
MIN_READ_BUFFER = 8192
UNIQUE_RESEND = 1 << 63
"""Set in the `unique` of a request that is sent again."""


class Opcode(IntEnum):
    """What the kernel asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52


class Notify(IntEnum):
    """What we may tell the kernel unasked."""

    INVAL_INODE = 2
    STORE = 4
    RESEND = 7


class Init(IntFlag):
    """Capabilities of INIT. Bits from 32 on travel in a second word, if INIT_EXT is set in the first."""

    ASYNC_READ = 1 << 0
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    POSIX_ACL = 1 << 20
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    INIT_EXT = 1 << 30
    HAS_RESEND = 1 << 39
    ALLOW_IDMAP = 1 << 40


class OpenFlag(IntFlag):
    """What an OPEN or OPENDIR is answered with, where the kernel cannot do without one."""

    KEEP_CACHE = 1 << 1
    CACHE_DIR = 1 << 3
