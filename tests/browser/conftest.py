"""A page of headless Chromium, which may open files and loopback addresses alone: `make browser-tests`."""

import os
import shutil
from urllib.parse import urlsplit

import pytest


@pytest.fixture(scope="session")
def browser():
    """Chromium of the system, or the one that the variable CHROMIUM names, or Playwright's own."""
    from playwright import sync_api

    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that fails the test where its scripts throw, log an error, or ask for anything outside this machine."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: faults.extend(outside(request.url)))
    yield page
    page.close()
    assert not faults, "\n".join(faults)


def outside(url: str) -> list[str]:
    """Return [url] where it leads away from this machine."""
    parts = urlsplit(url)
    local = parts.scheme in ("file", "data", "blob", "about") or parts.hostname in ("127.0.0.1", "localhost")
    return [] if local else [url]
