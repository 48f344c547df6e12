"""Chromium for the tests that look at the page: one for tests that follow one another, a fresh profile for each.

A pytest plugin. `page` opens as `@pytest.mark.browser_page(locale="zh-CN", width=375, ...)` says; it collects what the
console complains about in `page_errors`, and what the page asked of any other host in `foreign_requests`.
Screenshots go to the folder named by TEST_OUTPUT, or to `tests/output/`.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

SYSTEM_CHROMIUM = (
    "/usr/bin/chromium-headless-shell",  # opens a page in two thirds of the time
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser_page(locale, width, height, color_scheme): how `page` is opened")


def find_chromium() -> str | None:
    """The system's Chromium, or None to use the one Playwright installed."""
    return next((path for path in SYSTEM_CHROMIUM if shutil.which(path)), None)


def output_folder() -> Path:
    """Where tests leave pictures for people to look at."""
    folder = Path(os.environ.get("TEST_OUTPUT") or Path(__file__).parent / "output")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class _RunningBrowser:
    """Chromium; while it runs, its thread can use asyncio for nothing else."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._chromium: Any = None

    def chromium(self) -> Any:
        """The browser, started if it does not run; skips where there is none."""
        if self._chromium is None:
            sync_api = pytest.importorskip("playwright.sync_api")
            sync_api.expect.set_options(timeout=30_000)  # as long as the page's own waits; a machine may be busy
            playwright = self._open.enter_context(sync_api.sync_playwright())
            try:
                self._chromium = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
            except sync_api.Error as error:
                self.close()
                pytest.skip(f"no Chromium to test with: {str(error).splitlines()[0]}")
            self._open.callback(self._chromium.close)
        return self._chromium

    def close_profiles(self) -> None:
        """Closes all pages, and forgets what they have stored."""
        for context in self._chromium.contexts:
            context.close()

    def close(self) -> None:
        """Ends the browser, if it runs."""
        self._open.close()
        self._chromium = None


_running = _RunningBrowser()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Ends the browser when a test follows that does not use it."""
    if "browser" not in getattr(nextitem, "fixturenames", ()):
        _running.close()


@pytest.fixture
def browser() -> Iterator[Any]:
    """A headless Chromium, in which a test may open profiles of its own."""
    yield _running.chromium()
    _running.close_profiles()


@pytest.fixture
def page(browser: Any, request: pytest.FixtureRequest) -> Any:
    """A page in a profile of its own, with `page_errors` and `foreign_requests` gathering what went wrong."""
    mark = request.node.get_closest_marker("browser_page")
    wanted = {"locale": "en-US", "width": 1280, "height": 900, "color_scheme": "light", **(mark.kwargs if mark else {})}
    context = browser.new_context(
        locale=wanted["locale"],
        viewport={"width": wanted["width"], "height": wanted["height"]},
        color_scheme=wanted["color_scheme"],
        permissions=["clipboard-read", "clipboard-write"],
    )
    opened = context.new_page()
    watch(opened)
    return opened


def watch(page: Any) -> None:
    """Gathers console errors, uncaught exceptions, failed answers and requests to other hosts on `page`."""
    page.page_errors = []
    page.foreign_requests = []
    page.on("console", lambda said: said.type == "error" and page.page_errors.append(said.text))
    page.on("pageerror", lambda error: page.page_errors.append(str(error)))
    page.on("dialog", lambda dialog: (page.page_errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda asked: _is_foreign(asked.url) and page.foreign_requests.append(asked.url))


def _is_foreign(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in ("127.0.0.1", "localhost", "::1")
