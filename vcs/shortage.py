"""Too little memory, or too few descriptors: then nothing is wrong with what was to be read. Of memory some libraries
say so by words alone."""

from __future__ import annotations

import errno

SHORTAGES = (errno.ENFILE, errno.EMFILE, errno.ENOMEM)
"""What the kernel says of it. The first one's words begin with the second's."""

_WORDS = (
    "not enough memory",  # zstd (ZSTD_error_memory_allocation)
    "failed to initialize zlib",  # libgit2, which looks no further
    "Error -4 while",  # Python's zlib, of Z_MEM_ERROR
    "can't start new thread",  # CPython, also where no more threads may be had
    "can't allocate lock",
    "failed to map segment",  # the loader, of a library
)


def is_of_memory(error: BaseException) -> bool:
    """Whether an error of a library says that it had too little memory."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _WORDS)


def raise_shortage(error: BaseException) -> None:
    """Raise MemoryError if that is what the error says, or the error itself if it is the kernel's word for either; for
    before it is taken for damage."""
    if isinstance(error, OSError) and error.errno in SHORTAGES:
        raise error
    if is_of_memory(error):
        raise MemoryError(str(error)) from error
