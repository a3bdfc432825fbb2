"""While messages come fast, processors of a virtual machine are kept from halting.

A message wakes the driver, and its answer wakes whoever asked; on a quiet machine both sleep on processors of their
own. In a virtual machine an idle processor halts, which leaves to the host, and coming back costs 20-40 us each time: a
message that takes 6 us of work took 62 us, and a cold `find` twice its time; on a loaded machine it took 12 us.

The kernel lets a process ask that idle processors answer at once: a 0 written to /dev/cpu_dma_latency makes them poll
for as long as the file is open (Documentation/power/pm_qos_interface.rst). It is asked for only where it helps, with
the idle governor of guests, and only within a burst of messages: it ends 10 ms after the last.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_log = logging.getLogger(__name__)

BURST = 32
"""The loop calls noticed() once in so many messages."""
_QUIET_SECONDS = 0.01
_DEVICE = Path("/dev/cpu_dma_latency")
_GOVERNOR = Path("/sys/devices/system/cpu/cpuidle/current_governor")
_GUESTS_GOVERNOR = "haltpoll"


class Wakefulness:
    """Asks while there is a burst. `messages` tells how many were served; it is called from a thread of ours."""

    def __init__(self, messages: Callable[[], int], device: Path = _DEVICE) -> None:
        self._messages = messages
        self._device = device
        self._lock = threading.Lock()
        self._held: int | None = None
        self._busy = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="wakefulness", daemon=True)
        self._thread.start()

    @property
    def is_asked(self) -> bool:
        """Whether processors are kept awake at this moment."""
        return self._held is not None

    def noticed(self) -> None:
        """A burst begins or goes on."""
        if self._held is None:
            with self._lock, suppress(OSError):
                self._held = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC)
                os.write(self._held, bytes(4))
                self._busy.set()

    def close(self) -> None:
        """Let processors sleep, and end the thread."""
        self._closed.set()
        self._busy.set()
        self._thread.join()
        self._release()

    def _release(self) -> None:
        with self._lock:
            self._busy.clear()
            if self._held is not None:
                os.close(self._held)
                self._held = None

    def _watch(self) -> None:
        while not self._closed.is_set():
            self._busy.wait()
            before = self._messages()
            if not self._closed.wait(_QUIET_SECONDS) and self._messages() == before:
                self._release()


def is_of_use(device: Path = _DEVICE, governor: Path = _GOVERNOR) -> bool:
    """Whether this is a machine whose processors should be kept awake, and may be. Logs why not."""
    try:
        name = governor.read_text().strip()
    except OSError:
        name = "none"
    if name != _GUESTS_GOVERNOR:
        _log.info("processors may sleep within bursts: the idle governor is %s, not that of guests", name)
        return False
    if not os.access(device, os.W_OK):
        _log.info("processors may sleep within bursts: %s cannot be written", device)
        return False
    _log.info("processors are kept awake within bursts: halting in a virtual machine costs more than a message")
    return True
