"""What the C library does with memory that is freed.

Every step of a training takes and frees gradients and scores of megabytes. glibc gives such blocks
back to the system, and the next step pays for each page anew: `python -m benchmarks.training --grow
allocator` shows what that costs. Where the C library is another one, nothing here has an effect.
"""

import ctypes

_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_LARGEST_BLOCK = 32 << 20  # larger ones go back at once, as before
_KEPT = 512 << 20


def keep_freed_memory() -> None:
    """Have this process keep blocks below 32 MiB that it frees, from now on.

    What lies free at the end of the heap goes back beyond half a gigabyte.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
        library.mallopt(_TRIM_THRESHOLD, _KEPT)


def give_back_freed_memory() -> None:
    """Give back what is freed and kept, as before a measurement of memory."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
