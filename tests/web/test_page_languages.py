"""The languages of the page: the same words in both, and the one of the browser unless another is chosen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from dexpression.labels import EIGHT
from dexpression.reading import UNKNOWN
from tests.support.browser import address, drop, read, wait_for_status
from tests.support.faces import encode
from tests.support.server import ROOT

STATIC = ROOT / "dexpression" / "web" / "static"


def words(language: str) -> dict[str, str]:
    """The texts of one language by their keys, from messages.js."""
    [block] = re.findall(rf"export const {language} = {{(.*?)^}};", (STATIC / "messages.js").read_text(), re.S | re.M)
    return dict(re.findall(r'^  (\w+): "(.*)",$', block, re.MULTILINE))


def sources(*patterns: str) -> str:
    paths: list[Path] = [path for pattern in patterns for path in sorted(STATIC.glob(pattern))]
    return "\n".join(path.read_text() for path in paths if path.name != "messages.js")


def test_both_languages_have_the_same_keys_with_the_same_values_in_braces():
    english, portuguese = words("en"), words("pt")
    assert list(english) == list(portuguese)
    assert len(english) > 60
    for key, text in english.items():
        missing = set(re.findall(r"{(\w+)}", text)) - set(re.findall(r"{(\w+)}", portuguese[key]))
        assert not missing, key


def test_every_text_of_the_page_has_a_key_and_every_key_is_used():
    named = set(re.findall(r'data-(?:text|label)="(\w+)"', sources("*.html")))
    assert named <= words("en").keys()
    mentioned = set(re.findall(r"\w+", sources("*.html", "*.js") + (STATIC / "client.js").read_text()))
    codes = set(re.findall(r'"(\w+)": \d{3}', (ROOT / "dexpression" / "web" / "errors.py").read_text()))
    assert words("en").keys() - mentioned - codes == {*EIGHT, UNKNOWN} - mentioned


@pytest.mark.slow
@pytest.mark.parametrize(
    ("languages", "chosen"),
    [
        ("pt-BR,en", "pt-BR"),
        ("pt-PT", "pt-BR"),
        ("de-DE,pt;q=0.8,en;q=0.5", "pt-BR"),
        ("en-GB,pt", "en"),
        ("fr-FR", "en"),
    ],
)
def test_the_page_speaks_the_first_language_of_the_browser_that_it_knows(browser, server, languages, chosen):
    set_languages(browser, languages)
    try:
        browser.get(address(server))
        assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == chosen
    finally:
        set_languages(browser, "en-US,en")


def set_languages(browser: WebDriver, languages: str) -> None:
    agent = browser.execute_script("return navigator.userAgent")
    browser.execute_cdp_cmd("Emulation.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": languages})


@pytest.mark.slow
def test_the_switch_translates_what_is_shown_and_is_remembered(page, portrait):
    drop(page, encode(portrait, "JPEG"))
    wait_for_status(page, "One face: ")
    page.find_element(By.ID, "language").click()
    assert read(page, "#status").startswith("Um rosto: ")
    assert "Rosto 1: " in read(page, ".faces")
    assert "TRISTEZA" in read(page, ".bars")
    assert page.find_element(By.CSS_SELECTOR, ".faces").get_attribute("aria-label") == "Rostos, do maior ao menor"
    page.refresh()
    assert read(page, "#camera") == "Ligar a câmera"
    drop(page, b"not a picture", name="notes.txt", media_type="text/plain")
    wait_for_status(page, "não é uma imagem")
    page.find_element(By.ID, "language").click()
    assert read(page, "#status").startswith("The file is text")
    page.execute_script("localStorage.clear()")
