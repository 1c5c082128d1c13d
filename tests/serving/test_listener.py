"""A stop: who has connected is answered, nobody else connects."""

from __future__ import annotations

import socket
import sys

import pytest

from dexpression.serving.listener import bound_socket, stop_accepting


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing keeps callers from connecting before the close")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_has_connected_is_taken_and_nobody_else_connects(host):
    with bound_socket(host, 0) as listener:
        listener.listen()
        address = listener.getsockname()[:2]
        with socket.create_connection(address, timeout=5) as before:
            stop_accepting(listener)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.5)
            before.sendall(b"still heard")
            taken, _ = listener.accept()
            with taken:
                assert taken.recv(11) == b"still heard"
                taken.sendall(b"and answered")
            assert before.recv(12) == b"and answered"
