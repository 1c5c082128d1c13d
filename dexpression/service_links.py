"""The variables that Kubernetes makes of Services whose names begin with "dexpression": they are no settings."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

MAX_PORT = 65_535


def find_service_links(environ: Mapping[str, str]) -> list[str]:
    """The names of these variables, sorted.

    Each is judged alone, by its name and its value: DEXPRESSION_PORT is one as `tcp://10.0.0.1:9874`, not as `80`.
    """
    return sorted(key for key, text in environ.items() if _is_service_link(key, text))


def _is_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address, without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_port(text: str) -> bool:
    return re.fullmatch(r"[1-9]\d{0,4}", text, re.ASCII) is not None and int(text) <= MAX_PORT


def _is_protocol(text: str) -> bool:
    return text in ("tcp", "udp", "sctp")


def _is_address_with_port(text: str) -> bool:
    """Whether this is such as tcp://10.0.0.1:9874 or udp://[fd00::1]:53."""
    found = re.fullmatch(r"(\w+)://(?:\[(.*:.*)\]|([\d.]+)):(\d+)", text, re.ASCII)
    return found is not None and _is_protocol(found[1]) and _is_address(found[2] or found[3]) and _is_port(found[4])


# What Kubernetes gives every container for each Service of its namespace, after the name of the Service:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
SERVICE_LINKS = (
    (r"SERVICE_HOST", _is_address),
    (r"SERVICE_PORT(_[A-Z\d_]+)?", _is_port),
    (r"PORT(_\d+_(TCP|UDP|SCTP))?", _is_address_with_port),
    (r"PORT_\d+_(TCP|UDP|SCTP)_PROTO", _is_protocol),
    (r"PORT_\d+_(TCP|UDP|SCTP)_PORT", _is_port),
    (r"PORT_\d+_(TCP|UDP|SCTP)_ADDR", _is_address),
)


def _is_service_link(key: str, text: str) -> bool:
    """Whether any shape fits: DEXPRESSION_SERVICE_PORT belongs to a Service `dexpression` or `dexpression-service`."""
    return any(
        has_shape(text) and re.fullmatch(rf"DEXPRESSION_([A-Z\d_]*_)?{ending}", key, re.ASCII)
        for ending, has_shape in SERVICE_LINKS
    )
