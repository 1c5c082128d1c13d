"""Variables that Kubernetes makes of Services are no settings."""

from __future__ import annotations

import pytest

from dexpression.errors import SettingError
from dexpression.service_links import find_service_links
from dexpression.settings import Settings

LINKS = {  # of the Services dexpression, dexpression-web, dexpression-max and dexpression-service
    "DEXPRESSION_SERVICE_HOST": "10.0.0.1",
    "DEXPRESSION_SERVICE_PORT": "9874",
    "DEXPRESSION_SERVICE_PORT_HTTP_2": "9874",
    "DEXPRESSION_PORT": "tcp://10.0.0.1:9874",
    "DEXPRESSION_PORT_9874_TCP": "tcp://10.0.0.1:9874",
    "DEXPRESSION_PORT_9874_TCP_PROTO": "tcp",
    "DEXPRESSION_PORT_9874_TCP_PORT": "9874",
    "DEXPRESSION_PORT_9874_TCP_ADDR": "10.0.0.1",
    "DEXPRESSION_WEB_SERVICE_HOST": "fd00::1",
    "DEXPRESSION_WEB_PORT": "udp://[fd00::1]:53",
    "DEXPRESSION_WEB_PORT_53_UDP": "udp://[fd00::1]:53",
    "DEXPRESSION_WEB_PORT_53_UDP_PROTO": "udp",
    "DEXPRESSION_WEB_PORT_53_UDP_ADDR": "fd00::1",
    "DEXPRESSION_MAX_PORT": "sctp://10.0.0.1:1",
    "DEXPRESSION_MAX__2_PORT_1_SCTP_PORT": "1",
    "DEXPRESSION_SERVICE_SERVICE_HOST": "10.0.0.1",
    "DEXPRESSION_SERVICE_PORT_80_TCP": "tcp://10.0.0.1:80",
}


def test_service_links_of_kubernetes_are_passed_over():
    environ = {"PATH": "/bin", "OTHER_PORT": "tcp://10.0.0.1:80", "DEXPRESSION_LOG": "json"} | LINKS
    assert find_service_links(environ) == sorted(LINKS)
    assert Settings.from_env(environ) == Settings(log="json")


def test_a_service_link_of_a_service_whose_name_is_that_of_another_link_is_passed_over():
    assert Settings.from_env({"DEXPRESSION_SERVICE_PORT": "tcp://10.0.0.1:80"}) == Settings()


def test_a_port_beside_service_links_is_a_setting():
    assert Settings.from_env(LINKS | {"DEXPRESSION_PORT": "9000"}) == Settings(port=9000)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DEXPRESSION_PORT", "tcp://"),
        ("DEXPRESSION_PORT", "tcp://10.0.0.1"),
        ("DEXPRESSION_PORT", "tcp://10.0.0.1:0"),
        ("DEXPRESSION_PORT", "tcp://10.0.0.1:65536"),
        ("DEXPRESSION_PORT", "tcp://10.0.0.256:80"),
        ("DEXPRESSION_PORT", "tcp://[10.0.0.1]:80"),
        ("DEXPRESSION_PORT", "tcp://[fd00::1:80"),
        ("DEXPRESSION_PORT", "tcp://dexpression:80"),
        ("DEXPRESSION_PORT", "tcp://10.0.0.1:80/"),
        ("DEXPRESSION_PORT", "http://10.0.0.1:80"),
        ("DEXPRESSION_PORT", " tcp://10.0.0.1:80"),
        ("DEXPRESSION_PORT", "10.0.0.1"),
        ("DEXPRESSION_SERVICE_HOST", "dexpression.example"),
        ("DEXPRESSION_SERVICE_HOST", ""),
        ("DEXPRESSION_SERVICE_PORT", "http"),
        ("DEXPRESSION_SERVICE_PORT", "99999"),
        ("DEXPRESSION_WEB_PORT", "9000"),
        ("DEXPRESSION_HOST_PORT", "9000"),
        ("DEXPRESSION_PORT_9874_TCP_PROTO", "http"),
        ("DEXPRESSION_PORT_9874_HTTP", "tcp://10.0.0.1:9874"),
        ("DEXPRESSION_PORT_WEB_TCP_ADDR", "10.0.0.1"),
        ("DEXPRESSION_SERVICE_ADDR", "10.0.0.1"),
        ("DEXPRESSION_service_HOST", "10.0.0.1"),
    ],
)
def test_what_only_resembles_a_service_link_is_refused_by_its_name(variable, value):
    with pytest.raises(SettingError, match=f"{variable}( is |\\.)"):
        Settings.from_env(LINKS | {variable: value})
