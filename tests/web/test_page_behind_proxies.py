"""The page and client.js behind a reverse proxy: below a path, and where the proxy itself answers, in HTML."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from tests.support.browser import address, drop, is_one_face_shown, read, wait, wait_for_status
from tests.support.faces import encode
from tests.support.proxy import Proxy
from tests.support.server import Server

pytestmark = pytest.mark.slow

TEMPORARY = (429, 502, 503, 504)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.port, "/emotion") as proxy:
        yield proxy


@pytest.fixture
def page(browser: WebDriver, proxy: Proxy) -> WebDriver:
    browser.get(proxy.url)
    return browser


def loaded(page: WebDriver) -> list[str]:
    names = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    return [name for name in names if name.startswith("http")]


def test_the_page_and_its_requests_stay_below_the_path(page, proxy, portrait):
    drop(page, encode(portrait, "JPEG"))
    wait(page, lambda: is_one_face_shown(page))
    assert all(name.startswith(proxy.url) for name in loaded(page))
    assert read(page, "#curl").endswith(f" {proxy.url}")


def test_the_documentation_and_its_requests_stay_below_the_path(page, proxy):
    page.get(f"{proxy.url}docs")  # the proxied server redirects it to docs/
    wait(page, lambda: "/health/live" in read(page, "body"))
    page.find_element(By.CSS_SELECTOR, "[id$=check_live] button").click()
    for name in (".try-out__btn", ".execute"):
        wait(page, lambda name=name: bool(page.find_elements(By.CSS_SELECTOR, name)))
        page.find_element(By.CSS_SELECTOR, name).click()
    wait(page, lambda: '"live"' in read(page, ".live-responses-table"))
    assert all(name.startswith(proxy.url) for name in loaded(page))


@pytest.mark.parametrize("status", TEMPORARY)
def test_the_page_names_a_temporary_error_of_a_proxy_and_asks_again(page, proxy, portrait, status):
    proxy.status = status
    drop(page, encode(portrait, "JPEG"))
    wait_for_status(page, f"({status})")
    assert "tries again" in read(page, "#status")
    proxy.status = 0
    wait(page, lambda: is_one_face_shown(page))


def test_the_page_waits_as_long_as_the_proxy_says(page, proxy, portrait):
    proxy.status, proxy.headers = 429, {"Retry-After": "600"}
    drop(page, encode(portrait, "JPEG"))
    wait_for_status(page, "(429)")
    page.execute_async_script("setTimeout(arguments[0], 2500)")  # without the header it asks again after 1 s
    assert len(proxy.posts) == 1


def test_a_picture_that_is_too_large_for_the_proxy_is_sent_smaller(page, proxy, portrait):
    proxy.max_bytes = 300_000
    drop(page, encode(portrait.resize((2000, 2000)), "JPEG", quality=95))
    wait(page, lambda: is_one_face_shown(page))
    assert proxy.posts[0] > proxy.max_bytes > proxy.posts[-1]


def test_the_page_says_that_no_size_is_small_enough_for_the_proxy(page, proxy, portrait):
    proxy.max_bytes = 100
    drop(page, encode(portrait, "JPEG"))
    wait_for_status(page, "too large for this server (413)")


@pytest.mark.parametrize(("status", "message"), [(403, "answered 403"), (200, "Another program than DeXpression")])
def test_the_page_shows_any_other_answer_of_a_proxy_once(page, proxy, portrait, status, message):
    proxy.status = status
    drop(page, encode(portrait, "JPEG"))
    wait_for_status(page, message)
    assert len(proxy.posts) == 1


PREDICT = """const [module, photo, options, done] = arguments;
const { predict } = await import(module);
const bytes = Uint8Array.from(atob(photo), (letter) => letter.charCodeAt(0));
predict(new Blob([bytes]), options).then(done, ({ constructor, code, status, isTemporary, message }) => {
  done({ error: constructor.name, code, status, isTemporary, message });
});"""


def predict(page: WebDriver, module: str, portrait, **options: object) -> dict:
    """The reading, or the error, of client.js in the page of another site."""
    photo = base64.b64encode(encode(portrait, "JPEG")).decode()
    return page.execute_async_script(PREDICT, module, photo, options)


@pytest.fixture
def other_page(browser: WebDriver, server: Server) -> Iterator[WebDriver]:
    """A page of another origin, which has no content security policy."""
    with Proxy(server.port, "/elsewhere") as site:
        browser.get(site.url.replace("/elsewhere", "/nothing"))
        yield browser


def test_another_page_can_import_the_client(other_page, server, portrait):
    result = predict(other_page, f"{address(server)}/client.js", portrait, labels="five")
    assert len(result["faces"]) == 1
    assert "SAD" not in result["probabilities"]


FOLLOW = """
const [module, done] = arguments;
const { Tracker } = await import(module);
const tracker = new Tracker();
const face = (x, HAPPY) => ({ box: { x, y: 0, width: 50, height: 50 }, probabilities: { HAPPY, SAD: 1 - HAPPY } });
const answers = [tracker.follow(0, [face(0, 0.9)]), tracker.follow(0.1, [face(200, 0.2), face(5, 0.4)])];
try { tracker.follow(0.1, []); } catch (error) { answers.push(error.message); }
done(answers);
"""


def test_another_page_can_follow_faces_with_the_client(other_page, server):
    [first], [new, same], message = other_page.execute_async_script(FOLLOW, f"{address(server)}/client.js")
    assert [face["track"] for face in (first, new, same)] == [1, 2, 1]
    assert [face["result"] for face in (first, new, same)] == ["HAPPY", "SAD", "HAPPY"]
    assert (same["probabilities"]["HAPPY"], same["confidence"]) == (0.4, pytest.approx(0.81, abs=0.01))
    assert message == "Time 0.1 is not later than 0.1, that of the last frame. Make a new Tracker to start again."


@pytest.mark.parametrize("end", ["", "/", "/?from=here#there"])
def test_the_client_keeps_the_path_of_its_module_and_of_the_server_it_is_given(
    other_page, server, proxy, portrait, end
):
    assert predict(other_page, f"{proxy.url}client.js", portrait)["faces"]
    assert len(proxy.posts) == 1
    given = proxy.url.rstrip("/") + end
    assert predict(other_page, f"{address(server)}/client.js", portrait, server=given)["faces"]
    assert len(proxy.posts) == 2


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (413, "payload_too_large"),
        (429, "too_many_requests"),
        (502, "bad_gateway"),
        (503, "service_unavailable"),
        (504, "gateway_timeout"),
        (500, "http_500"),
        (200, "unreadable_answer"),
    ],
)
def test_the_client_throws_a_refusal_with_the_status_of_an_answer_in_html(other_page, proxy, portrait, status, code):
    proxy.status = status
    error = predict(other_page, f"{proxy.url}client.js", portrait)
    assert (error["error"], error["status"], error["code"]) == ("RefusedError", status, code)
    assert error["isTemporary"] == (status in TEMPORARY)
    assert len(error["message"]) > 20
