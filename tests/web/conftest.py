"""A browser, and a server whose page it shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image
from selenium.webdriver.remote.webdriver import WebDriver

from dexpression.web import create_app
from dexpression.web.service import Service
from tests.support.browser import OTHER_HOST, address, open_browser, require_chromium
from tests.support.server import Server
from tests.support.web import LIMITS, StubPredictor


@pytest.fixture
def predictor() -> StubPredictor:
    """The stub that answers a test's requests."""
    return StubPredictor()


@pytest.fixture
def client(predictor: StubPredictor) -> FlaskClient:
    """A client of the app without a server; a module may define another predictor for it."""
    return create_app(Service(predictor), LIMITS).test_client()


@pytest.fixture(scope="module")
def browser(portrait: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    require_chromium()
    browser = open_browser(tmp_path_factory.mktemp("browser"), portrait)
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def server(light_export: Path) -> Iterator[Server]:
    with Server(light_export, DEXPRESSION_HOSTS=OTHER_HOST) as server:
        yield server


@pytest.fixture
def page(browser: WebDriver, server: Server) -> WebDriver:
    browser.get(address(server))
    return browser
