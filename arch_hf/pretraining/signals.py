"""SIGTERM and SIGUSR1: a checkpoint at the next step, and for SIGTERM the end."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Asked:
    """What signals have asked for since they were last looked at."""

    def __init__(self):
        self.save = self.stop = False

    def take(self) -> tuple[bool, bool]:
        """(save, stop), once."""
        taken = self.save, self.stop
        self.save = self.stop = False
        return taken


@contextlib.contextmanager
def listening() -> Iterator[Asked]:
    """Hear SIGTERM (a scheduler's end: save and stop) and SIGUSR1 (its warning: save and go on)."""
    asked = Asked()

    def hear(number, _frame):
        asked.save = True
        asked.stop = asked.stop or number == signal.SIGTERM

    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may listen to signals
        return
    numbers = [signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
    before = {number: signal.signal(number, hear) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
