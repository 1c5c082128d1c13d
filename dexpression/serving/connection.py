"""One connection of the HTTP server: waitress's parser, channel and tasks, bounded, and with our error documents.

A connection has at most one request in work, and at most one answer in memory: the next request of a client that sends
many at once is parsed only after the last answer has left.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
import time
from http import HTTPStatus
from typing import Any

from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import BadRequest

from dexpression.web.errors import Overloaded, RequestError
from dexpression.web.problems import encode_problem, error_problem, http_problem, new_request_id
from dexpression.web.protection import ALWAYS
from dexpression.web.records import NO_ROUTE, record_request
from dexpression.web.service import MAY_TAKE_LONG

SMALL_BODY_BYTES = 65_536  # a face or a frame of a webcam; such bodies are read even while the buffers are full
MAX_CHUNK_LINE_BYTES = 1_024  # the line before a chunk, with its extensions
MAX_TRAILER_BYTES = 8_192  # the fields after the last chunk
MAX_CHUNK_OVERHEAD_BYTES = 65_536  # of chunk lines beyond one byte for each byte of the body
LINGER_SECONDS = 2.0  # of reading on after a refusal, while the client still sends

logger = logging.getLogger(__name__)


class BoundedParser(HTTPRequestParser):
    """Parses one request, and refuses it if it is ambiguous, wasteful, or large while the server's buffers are full."""

    completed: bool
    counted = 0  # bytes of this request in memory
    is_cut = False  # whether the rest of this request is not read
    refused_head = b""  # the beginning of a request whose headers are refused
    takes_long = False  # as the app has found out
    surplus = b""  # bytes that were received with this request, and follow it

    def received(self, data: bytes) -> int:
        head = self.header_plus
        consumed: int = super().received(data)
        self._count(consumed)
        if self.error and self.body_rcv is None:
            self.refused_head = (head + data)[: self.adj.max_request_header_size]
        if not self.completed and self.body_rcv is not None:
            self._check_body()
        if not self.completed:
            return consumed
        self.expect_continue = False  # waitress would ask for a body, and forget that the request is complete
        if self.empty:
            return consumed
        self.surplus = data[consumed:]  # the channel parses these bytes later
        return len(data)

    @property
    def is_large(self) -> bool:
        """Whether answering may take long: a photo, several pictures, or a few bytes that hold many pixels."""
        return self.takes_long or self.body_bytes_received > SMALL_BODY_BYTES

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # from urllib, for an address such as http://[alice]/
            raise ParsingError("The address is invalid") from error
        # Two lengths, of which a proxy may believe the other one (request smuggling, RFC 9112, section 6.1).
        if "TRANSFER_ENCODING" in self.headers or (self.chunked and "CONTENT_LENGTH" in self.headers):
            raise ParsingError("Transfer-Encoding with Content-Length, or in HTTP/1.0")

    def _check_body(self) -> None:
        if self.chunked and self._wastes_chunks():
            self.error = BadRequest("The chunks are too small, or their lines too long")
            self.completed = self.is_cut = True
        elif self.body_bytes_received > SMALL_BODY_BYTES and self.adj.buffered_bytes > self.adj.max_buffered_bytes:
            self.error = Overloaded("Too many large requests are sent at the same time. Retry in a second.")
            self.completed = self.is_cut = True

    def _wastes_chunks(self) -> bool:
        """Whether reading on would take more time than the body is worth; waitress copies an open line on each read."""
        body = self.body_rcv
        return (
            len(body.control_line) > MAX_CHUNK_LINE_BYTES
            or len(body.trailer) > MAX_TRAILER_BYTES
            or self.body_bytes_received > 2 * len(body) + MAX_CHUNK_OVERHEAD_BYTES
        )

    def _count(self, number: int) -> None:
        with self.adj.counting:
            self.counted += number
            self.adj.buffered_bytes += number

    def __del__(self) -> None:
        self._count(-self.counted)


class ClosingTask(WSGITask):
    """Answers a request by the app; while the server stops, the last answer closes its connection."""

    def get_environment(self) -> dict[str, Any]:
        environment: dict[str, Any] = super().get_environment()
        environment[MAY_TAKE_LONG] = self.request.is_large
        return environment

    def build_response_header(self) -> bytes:
        if self.channel.server.stopping and not self.channel.unparsed and not self.close_on_finish:
            self.request.headers.pop("CONNECTION", None)  # or HTTP/1.0 would get "keep-alive" too
            self.set_close_on_finish()
            self.channel.lingers = True
        header: bytes = super().build_response_header()
        return header


class ProblemTask(ErrorTask):
    """Answers a request that never reaches the app (not HTTP, too large, overloaded) with a problem document."""

    def execute(self) -> None:
        error, request_id = self.request.error, new_request_id()
        if isinstance(error, RequestError):
            members = error_problem(error, request_id)
        else:
            members = http_problem(error.code, error.reason, error.body, request_id)
        method, path, origin = self._addressed()
        body, headers = encode_problem(members, path)
        headers |= ALWAYS
        if self.request.is_cut or not isinstance(error, RequestError):  # the following bytes are not a request
            self.set_close_on_finish()
            self.channel.lingers = True
        headers |= self.channel.server.cors.headers_for_origin(path, method, origin)
        status: int = members["status"]
        record_request(NO_ROUTE, method, status, 0.0, request_id)
        self.status = f"{status} {HTTPStatus(status).phrase}"
        self.response_headers += headers.items()
        self.content_length = len(body)
        self.write(b"" if method == "HEAD" else body)

    def _addressed(self) -> tuple[str, str, str]:
        """Method, path and Origin of the request; as far as possible also of one that could not be parsed."""
        request = self.request
        if not request.refused_head:
            return getattr(request, "command", ""), getattr(request, "path", ""), request.headers.get("ORIGIN", "")
        line = re.match(rb"\s*([A-Z]+) (/[^\s?#]*)", request.refused_head)
        origin = re.search(rb"\nOrigin:[ \t]*([!-~]{1,300})[ \t]*\r\n", request.refused_head, re.IGNORECASE)
        method, path = (part.decode("latin-1") for part in line.groups()) if line else ("", "")
        return method, path, origin[1].decode("latin-1") if origin else ""


class ProblemChannel(HTTPChannel):
    """A connection that parses one request at a time, and answers with ClosingTask and ProblemTask."""

    parser_class = BoundedParser
    task_class = ClosingTask
    error_task_class = ProblemTask

    unparsed = b""  # received behind the request that is in work
    active_at: float  # time.monotonic() when the client last sent or read something, or connected
    requested_at = 0.0  # the same when the last bytes of the request were received
    is_in_work = False  # whether a thread works on the request
    lingers = False  # whether the client may still send when its answer has left
    _received_at = _linger_until = 0.0
    _has_begun_answer = False
    _given_up_by = 0  # the thread that answers in place of the one that still works on the request

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.active_at = time.monotonic()

    def readable(self) -> bool:
        """Whether to wait for bytes. While a thread works on the request, a client that has sent all may say so."""
        if self._linger_until:
            self.will_close = time.monotonic() > self._linger_until
            return True
        return not (self.unparsed or self.is_in_work) and bool(super().readable())

    def handle_read(self) -> None:
        if self._linger_until:
            self.recv(self.adj.recv_bytes)  # which closes the connection at the end
        else:
            super().handle_read()

    def handle_expt(self) -> None:
        """Close the connection of a client that sends urgent data, which would be reported at each poll."""
        self.handle_close()

    def handle_close(self) -> None:
        """Close the connection; after a refusal only when the client has ended too, or after a short time.

        The system would drop an answer that the client has not read yet if unread bytes were left at the close.
        """
        if self.lingers and self.connected and not self._linger_until:
            with contextlib.suppress(OSError):  # the client has gone
                self.socket.shutdown(socket.SHUT_WR)
                self._linger_until = time.monotonic() + LINGER_SECONDS
                self.will_close = self.close_when_flushed = False
                return
        super().handle_close()

    def received(self, data: bytes) -> bool:
        self.active_at = self._received_at = time.monotonic()
        self.unparsed += data
        return self._parse()

    def resume(self) -> None:
        """Send what is left of the last answer; if all has left, parse the next request."""
        if self.connected and self.writable():
            self.handle_write()
        elif self.connected:
            self._parse()

    def handle_write(self) -> None:
        unsent = self.total_outbufs_len
        super().handle_write()
        if self.total_outbufs_len < unsent:
            self.active_at = time.monotonic()
        if self.connected:
            self._parse()

    def _parse(self) -> bool:
        """Parse the next request, if all of the last answer has left."""
        if self.requests or self.total_outbufs_len or self._linger_until:
            return True
        if self.request is None:
            self.unparsed = self.unparsed.lstrip(b"\r\n")  # empty lines are no requests
        data, self.unparsed = self.unparsed, b""
        is_open: bool = super().received(data)
        if self.requests:
            self.unparsed, self.requested_at = self.requests[0].surplus, self._received_at
            self._has_begun_answer = False
        return is_open

    def give_up(self, original: BoundedParser, error: RequestError) -> None:
        """Answer a request that a thread still works on with an error, and close; that thread's answer is dropped."""
        with self.outbuf_lock:
            if self._has_begun_answer or not self.connected or original not in self.requests:
                return  # the thread is ready at this moment
            self._given_up_by = threading.get_ident()
        request = self.parser_class(self.adj)
        request.error, request.is_cut = error, True
        request.version, request.headers = original.version, original.headers
        request.command, request.path = original.command, original.path
        self.error_task_class(self, request).service()
        self.close_when_flushed = True

    def write_soon(self, data: bytes) -> int:
        with self.outbuf_lock:
            if self._given_up_by not in (0, threading.get_ident()):
                raise ClientDisconnected
            self._has_begun_answer = True
            written: int = super().write_soon(data)
        return written

    def prepare_again(self) -> None:
        """Prepare the request, which the app has postponed, for being answered from its start."""
        request = self.requests[0]
        request.takes_long = True
        request.get_body_stream().seek(0)

    @property
    def unread_bytes(self) -> int:
        """Bytes of answers in memory for a client that does not read; files are shared by all connections."""
        return sum(len(buffer) for buffer in self.outbufs if not isinstance(buffer, ReadOnlyFileBasedBuffer))

    @property
    def is_idle(self) -> bool:
        """Whether no request is in work and no byte waits to be read: nothing of the server's work would be lost."""
        if self.requests or self.will_close:
            return False
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:  # the connection is broken, and will be closed at the next poll
            return False

    def drop(self) -> None:
        """Close the connection at once, whatever is unsent or unread."""
        self.lingers = False
        self.handle_close()

    def handle_error(self) -> None:
        """Close the connection after an unforeseen exception; its text may hold what was sent, so it is not logged."""
        logger.exception("A connection failed and is closed.")
        self.handle_close()
