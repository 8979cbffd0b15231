"""Memory of arrays that are needed no more."""

import contextlib
import ctypes


def give_back_freed_memory() -> None:
    """Let the C library return what has been freed to the system, where it can: glibc keeps freed blocks below 32 MB.

    What the making of BERT-Base's first weights and slots leaves behind is 1 GB.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
