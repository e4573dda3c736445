from __future__ import annotations

import pytest

from tests.serving.servers import serving
from tests.serving.wire import exchange, status

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")

from tscnc_deploy.serving.errors import RequestError
from tscnc_deploy.serving.http.hosts import AllowedHosts


def allowed(host, bound="127.0.0.1", names=()):
    try:
        AllowedHosts(bound, names).check([host.encode("latin-1")])
    except RequestError as error:
        return error.reason.http
    return 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("localhost.", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]", 200),
        ("[::1]:8000", 200),
        ("[0:0:0:0:0:0:0:1]:8000", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.0.2.1", 421),
        ("localhost@evil.example", 421),
        ("localhost:80:80", 421),
        ("localhost:x", 400),
        ("", 400),
        (":8000", 400),
        ("\xe9", 421),
    ],
)
def test_a_server_on_the_loopback_interface_answers_under_its_names(host, status):
    assert allowed(host) == status


def test_the_bound_address_and_listed_names_are_allowed():
    assert allowed("192.0.2.1:8000", "192.0.2.1") == 200
    assert allowed("models.example:8000", "models.example") == 200
    assert allowed("models.example", names=["Models.Example"]) == 200
    assert allowed("a.models.example", names=["models.example"]) == 421
    assert allowed("anything.example", names=["*"]) == 200


@pytest.mark.parametrize("bound", ["0.0.0.0", "::"])
def test_a_server_on_all_interfaces_answers_under_every_address_and_under_no_foreign_name(bound):
    assert allowed("192.0.2.1:8000", bound) == 200
    assert allowed("[2001:db8::1]:8000", bound) == 200
    assert allowed("localhost", bound) == 200
    assert allowed("evil.example", bound) == 421


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (b"", 400),
        (b"Host: localhost\r\nHost: localhost\r\n", 400),
        (b"Host: evil.example\r\n", 421),
        (b"Host: localhost\r\n", 200),
    ],
)
@pytest.mark.parametrize("path", [b"/v2", b"/v2/health/live", b"/"])
def test_hosts_are_checked_for_every_path(server, headers, expected, path):
    assert status(exchange(server.http, b"GET " + path + b" HTTP/1.1\r\n" + headers + b"\r\n")) == expected


def test_the_host_is_checked_before_the_token_and_more_names_can_be_given(served_bundle):
    with serving(served_bundle, "--allowed-host", "models.example", TSCNC_SERVE_TOKEN="s3cret") as server:
        for host, expected in ((b"models.example", 401), (b"other.example", 421)):
            assert status(exchange(server.http, b"GET /v2 HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")) == expected
