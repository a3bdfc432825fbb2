"""System calls by their numbers on x86-64, and the sets of them that faults are thrown at."""

from __future__ import annotations

NUMBERS = {
    "write": 1, "open": 2, "mmap": 9, "brk": 12, "pwrite64": 18, "writev": 20, "mremap": 25, "dup": 32, "sendfile": 40,
    "socket": 41, "clone": 56, "fork": 57, "vfork": 58, "flock": 73,
    "fsync": 74, "fdatasync": 75, "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85,
    "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94,
    "mknod": 133, "mount": 165, "umount2": 166, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "openat": 257,
    "mkdirat": 258, "mknodat": 259, "fchownat": 260, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266,
    "fchmodat": 268, "utimensat": 280, "fallocate": 285, "pipe2": 293, "pwritev": 296, "syncfs": 306, "renameat2": 316,
    "open_by_handle_at": 304, "copy_file_range": 326, "clone3": 435, "openat2": 437,
    "read": 0, "stat": 4, "lstat": 6, "pread64": 17, "access": 21, "readlink": 89, "getxattr": 191, "lgetxattr": 192,
    "fgetxattr": 193, "listxattr": 194, "llistxattr": 195, "flistxattr": 196, "getdents64": 217, "newfstatat": 262,
    "readlinkat": 267, "faccessat": 269, "statx": 332, "faccessat2": 439,
}  # fmt: skip
NAMES = {number: name for name, number in NUMBERS.items()}

OPENING = frozenset({"open", "openat", "openat2", "creat"})
"""They change something only with O_CREAT or O_TRUNC; openat2 has its flags in memory and is taken to."""
ROOM = frozenset({
    "write", "pwrite64", "writev", "pwritev", "sendfile", "ftruncate", "fallocate", "copy_file_range", "mkdir",
    "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "mknod", "mknodat",
    "setxattr", "lsetxattr", "fsetxattr", "creat", "open", "openat", "openat2", "fsync", "fdatasync",
})  # fmt: skip
"""They need room on the disk, or say late that there was none."""
DISK = ROOM | {"unlink", "unlinkat", "rmdir", "truncate", "syncfs", "fchmod", "chmod", "fchown", "utimensat"}
"""They fail where a disk does."""
DESCRIPTORS = OPENING | {"dup", "socket", "pipe2", "open_by_handle_at"}
"""They make a descriptor."""
SLOW = frozenset({"open", "openat", "write", "pwrite64", "flock", "fsync", "fdatasync", "ftruncate"})
"""They can be interrupted by a signal."""
MEMORY = OPENING | {
    "mmap", "mremap", "brk", "clone", "clone3", "fork", "vfork", "flock", "mkdir", "rename", "socket",
    "open_by_handle_at",
}  # fmt: skip
"""They want memory, for the process or in the kernel."""
LOOKS = frozenset({
    "stat", "lstat", "access", "readlink", "getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr",
    "flistxattr", "getdents64", "newfstatat", "readlinkat", "faccessat", "statx", "faccessat2",
})  # fmt: skip
"""They tell whether something is there, and what it is like."""
READS = frozenset({"read", "pread64", "getdents64"})
"""They fail where a disk does that was written to earlier."""
SIZES = {"write": 2, "pwrite64": 2, "sendfile": 3, "copy_file_range": 4}
"""Calls that may write less than they were asked to, and which of their arguments (from 0) says how much that is."""
CHANGING = (
    frozenset(NUMBERS)
    - LOOKS
    - READS
    - {"dup", "socket", "pipe2", "open_by_handle_at", "flock"}
    - {"mmap", "mremap", "brk", "clone", "clone3", "fork", "vfork"}
)
"""What a command is killed at."""
