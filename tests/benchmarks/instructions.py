"""Counts the instructions of a thread, by perf_event_open(2), where the processor lets us.

Virtual machines often don't: then every count is 0 and `supported()` says so.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from contextlib import suppress

_SYSCALL = {"x86_64": 298, "aarch64": 241}
_HARDWARE, _INSTRUCTIONS = 0, 1
_ATTRIBUTE_BYTES = 64
# perf_event_attr: exclude_kernel and exclude_hv, which anybody may count at paranoia level 2.
_USER_ONLY = (1 << 5) | (1 << 6)


class Counter:
    """Instructions in user space of one thread of this process; 0 for ever if it can't be had."""

    def __init__(self, descriptor: int = -1) -> None:
        self._descriptor = descriptor

    @classmethod
    def of_thread(cls, ident: int, kind: int = _HARDWARE, event: int = _INSTRUCTIONS) -> Counter:
        """Start counting; `ident` as `threading.get_ident` gives it."""
        native = next((t.native_id for t in threading.enumerate() if t.ident == ident), None)
        number = _SYSCALL.get(os.uname().machine)
        if native is None or number is None:
            return cls()
        attribute = struct.pack("=IIQQQQQ", kind, _ATTRIBUTE_BYTES, event, 0, 0, 0, _USER_ONLY)
        buffer = ctypes.create_string_buffer(attribute, _ATTRIBUTE_BYTES)
        libc = ctypes.CDLL(None, use_errno=True)
        return cls(int(libc.syscall(number, buffer, native, -1, -1, 0)))

    def read(self) -> int:
        if self._descriptor < 0:
            return 0
        return int.from_bytes(os.read(self._descriptor, 8), "little")

    def close(self) -> None:
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


def supported() -> bool:
    """Whether this machine counts instructions."""
    counter = Counter.of_thread(threading.get_ident())
    try:
        return counter.read() > 0
    finally:
        counter.close()
