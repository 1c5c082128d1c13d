"""Access control: the names by which the server may be addressed, its own pages, and a bearer token, if it has one."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache
from urllib.parse import urlsplit

from flask import Flask, Response, request

from dexpression.settings import ANY, Settings
from dexpression.web.errors import Forbidden, MisdirectedRequest, Unauthorized

# Needed before a token can be sent, or by a monitor that has none.
PUBLIC_ENDPOINTS = {"page", "client", "static", "document", "live", "ready"} | {
    "protocol_live",
    "protocol_ready",
    "protocol_model_ready",
}
REDIRECTS = (301, 302, 303, 307, 308)
HOST = re.compile(r"(\[[\da-f:.]+\]|[\w.-]+)(:\d*)?", re.IGNORECASE | re.ASCII)  # a name or an address, and a port


def check_hosts(app: Flask, settings: Settings) -> None:
    """Refuse a request whose Host header is not a name of this server, and never name a host in a redirect.

    Without this check, any web page could read answers: its own name can be made to lead to this machine (DNS
    rebinding), and the browser then takes both for the same server. Addresses and localhost cannot be made so.
    """
    allowed = [name.lower() for name in settings.hosts.split()] or ([] if _is_local(settings.host) else [ANY])

    @lru_cache(maxsize=256)
    def is_known(host: str) -> bool:
        return ANY in allowed or _is_known(host, allowed)

    @app.before_request
    def check_host() -> None:
        if not is_known(request.headers.get("Host", "")):
            raise MisdirectedRequest(
                "This server does not answer under the name in the Host header. "
                "Call it by its address or as localhost, or let its operator add the name to DEXPRESSION_HOSTS."
            )

    @app.after_request
    def make_redirect_relative(response: Response) -> Response:
        if response.status_code in REDIRECTS:
            address = urlsplit(response.location or "")
            query = f"?{address.query}" if address.query else ""
            to_root = "../" * (request.path.count("/") - 1) or "./"  # below any path that a proxy adds
            response.location = f"{to_root}{address.path.lstrip('/')}{query}"
        return response


def refuse_other_pages() -> None:
    """Refuse the current request if a web page of another origin makes it; raises Forbidden."""
    if _comes_from_another_page():
        raise Forbidden("A web page of another server may not read the metrics. Read them without a browser.")


def require_token(app: Flask, token: str) -> None:
    """Require `Authorization: Bearer <token>` on every route but those of `PUBLIC_ENDPOINTS`."""
    expected = f"Bearer {token}".encode()

    @app.before_request
    def check_token() -> None:
        endpoint = request.endpoint or ""
        if request.method == "OPTIONS" or endpoint in PUBLIC_ENDPOINTS or endpoint.startswith("swagger_ui"):
            return
        given = request.headers.get("Authorization", "").encode("latin-1")  # the bytes as they were sent
        if not hmac.compare_digest(given, expected):  # constant time, so that timing reveals nothing of the token
            raise Unauthorized("This server requires a token. Send it in the header Authorization: Bearer <token>.")


def _comes_from_another_page() -> bool:
    origin = request.headers.get("Origin")
    own = {f"{scheme}://{request.headers.get('Host', '')}".lower() for scheme in ("http", "https")}
    if origin is not None and origin.lower() not in own:
        return True
    site, mode = request.headers.get("Sec-Fetch-Site", "none"), request.headers.get("Sec-Fetch-Mode")
    return site not in ("none", "same-origin") and mode != "navigate"


def _is_known(host: str, allowed: Collection[str]) -> bool:
    """Whether a Host header is missing, an address, a name of this machine, or an allowed name; its port is ignored."""
    if not host:
        return True  # HTTP/1.0; browsers always send one
    found = HOST.fullmatch(host)
    name = found[1].lower().removesuffix(".") if found else ""
    return name in allowed or _is_localhost(name) or _parse_address(name) is not None


def _is_local(name: str) -> bool:
    """Whether this name or address stands for this machine alone."""
    address = _parse_address(name)
    return address.is_loopback if address else _is_localhost(name)


def _is_localhost(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _parse_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None
