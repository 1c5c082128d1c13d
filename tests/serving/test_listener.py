"""The listening socket while the server stops: connections that exist are kept, new ones are dropped."""

from __future__ import annotations

import socket
import sys

import pytest

from dexpression.serving.listener import bound_socket, stop_accepting


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no filter that drops new connections")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_after_stop_accepting_old_connections_work_and_new_ones_are_dropped(host):
    with bound_socket(host, 0) as listener:
        listener.listen()
        listener.settimeout(60)
        address = listener.getsockname()[:2]
        with socket.create_connection(address, timeout=60) as client:
            stop_accepting(listener)
            # A dropped packet causes no event. The wait is short, because Linux completes a handshake with itself
            # within microseconds, even for a process that gets no processor time.
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.3)
            client.sendall(b"request")
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(60)
                assert accepted.recv(7) == b"request"
                accepted.sendall(b"answer")
            assert client.recv(6) == b"answer"
