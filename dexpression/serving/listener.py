"""The socket that callers come to, all workers alike: opened, and closed so that nobody's request is lost."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys
import time

from dexpression.errors import SettingError

SO_ATTACH_FILTER = 26  # as Linux's asm-generic/socket.h has it; Python has no name for it
DROP_SYN = (  # for the kernel's packet filter, see its networking/filter.rst: operation, jump if so, if not, operand
    (0x30, 0, 0, 13),  # load the byte of the TCP header that has the flags
    (0x45, 0, 1, 0x02),  # is SYN among them?
    (0x06, 0, 0, 0),  # then keep nothing of the packet,
    (0x06, 0, 0, 0xFFFFFFFF),  # else all of it
)
HANDSHAKE = 0.2  # seconds in which those who are about to connect have done so


def bound_socket(host: str, port: int) -> socket.socket:
    """Bound, to listen as soon as there is somebody to answer; raises SettingError where that cannot be."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        probe = socket.create_server(address[:2], family=family)  # which tells of a port that is taken
        probe.close()
        listener = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address[:2])
        return listener
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingError(
            f"Cannot listen on {host}:{port} ({reason}). "
            "Stop what uses it, or choose another with DEXPRESSION_HOST and DEXPRESSION_PORT."
        ) from error


def admit_no_more(listener: socket.socket) -> None:
    """Before a stop: who has connected can be taken still, and nobody else gets as far.

    Else the kernel would cut off who connects between the last look for callers and the close, as happened in 1 of 6
    stops under load. On Linux a filter drops what opens a connection; who sent that tries again and is refused.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in DROP_SYN))
    fprog = struct.pack("HP", len(DROP_SYN), ctypes.addressof(program))
    with contextlib.suppress(OSError):  # where the kernel has no filters it stays a matter of luck
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
        time.sleep(HANDSHAKE)
