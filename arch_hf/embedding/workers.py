"""How the processes of a long job behave: what they show, how they end, what they keep."""

import contextlib
import ctypes
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

PR_SET_PDEATHSIG = 1  # of linux/prctl.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


@contextlib.contextmanager
def ended_by_exception() -> Iterator[None]:
    """Make SIGTERM an exception, so that what was encoded is still stored: a launcher sends it to all ranks when one has died."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may listen to signals
        return

    def end(*_):
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_with_parent(_worker: int) -> None:
    """Make a worker process end with the one that started it: else it would wait for ever to hand over its batch."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def shared_memory_holds(n_bytes: float) -> bool:
    """Whether tensors of so many bytes can be passed between processes: a container may have little memory to share."""
    folder = Path("/dev/shm")
    return not folder.is_dir() or shutil.disk_usage(folder).free > n_bytes


@contextlib.contextmanager
def threads(n: int, cores: int) -> Iterator[ThreadPoolExecutor]:
    """So many threads, each of which computes on so many cores; at the end, what has not begun is dropped."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(cores,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # also for threads that are yet to come


def in_order(pool: ThreadPoolExecutor, function: Callable, items: Iterable, ahead: int) -> Iterator:
    """`function` of each item, computed in the pool's threads, in the order of the items; `ahead` results wait at most.

    Examples:
        >>> with threads(2, cores=1) as pool:
        ...     list(in_order(pool, abs, [-3, 2, -1], ahead=2))
        [3, 2, 1]
    """
    pending: deque[Future] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next request, where it is glibc.

    By default it returns large arrays to the system at once. A model on a CPU asks for the same ones again in each pass, and
    the system clears every page of them.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
