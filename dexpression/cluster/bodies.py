"""Bodies of requests in ASGI, read whole before the app begins: none is larger, and none takes longer, than allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from dexpression.web.errors import RequestError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

BODY_SECONDS = 30.0  # for a whole body; its request counts as one that the replica answers


class WholeBodies:
    """An ASGI app that calls another one with the whole body of a request, which is in memory.

    A body of over `max_bytes` is read no further; its length then makes the app refuse it. For one that takes longer
    than `seconds`, the app gets a RequestError when it reads it. A request whose client disconnects is dropped.
    """

    def __init__(self, app: App, max_bytes: int, seconds: float = BODY_SECONDS) -> None:
        self._app, self._max_bytes, self._seconds = app, max_bytes, seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or pass anything else on."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        length, body, failure = _declared_length(scope), b"", None
        if length <= self._max_bytes:
            try:
                async with asyncio.timeout(self._seconds):
                    body = await self._read(receive)
            except ClientDisconnected:
                return None
            except TimeoutError:
                failure = RequestError(f"The body was not complete after {self._seconds:g} s. Send a smaller picture.")
            length = len(body) + 1 if failure else len(body)

        async def receive_whole() -> Message:
            if failure:
                raise failure
            return {"type": "http.request", "body": body, "more_body": False}

        return await self._app(_with_length(scope, length), receive_whole, send)

    async def _read(self, receive: Receive) -> bytes:
        """The body, or its beginning, which is larger than allowed; raises ClientDisconnected."""
        body = bytearray()
        while len(body) <= self._max_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        return bytes(body)


class ClientDisconnected(Exception):
    """The client has gone before its request was complete."""


def _declared_length(scope: Message) -> int:
    """The length of the body that the client names; 0 if it names none, as for one in chunks."""
    return int(dict(scope["headers"]).get(b"content-length", 0))


def _with_length(scope: Message, length: int) -> Message:
    """The scope of a request whose body has this length and is not in chunks."""
    framing = (b"content-length", b"transfer-encoding")
    headers = [(name, value) for name, value in scope["headers"] if name not in framing]
    return {**scope, "headers": [*headers, (b"content-length", b"%d" % length)]}
