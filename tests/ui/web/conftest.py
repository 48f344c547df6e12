"""The browser and the served page for the tests of the page."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.scripted_model import Script
from tests.ui.web.served_page import Served, is_cut_by_leaving


@pytest.fixture(scope="session")
def shared() -> Iterator[Served]:
    """The page that tests without wishes of their own take one after another."""
    served = Served(Script())
    yield served
    served.close()


@pytest.fixture
def serve(shared: Served) -> Iterator[Callable[..., Served]]:
    """Gives a page with a script and no conversations; options make a page of its own."""
    own: list[Served] = []

    def make(script: Script | None = None, **options: Any) -> Served:
        script = script or Script()
        if not options:
            shared.begin_again(script)
            return shared
        own.append(Served(script, **options))
        return own[-1]

    yield make
    for one in own:
        one.close()


@pytest.fixture
def nothing_is_wrong_in_the_browser(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test may leave an error in the console or ask another host for anything."""
    page = request.getfixturevalue("page") if "page" in request.fixturenames else None
    yield
    if page is not None:
        assert [said for said in page.page_errors if not is_cut_by_leaving(said)] == []
        assert page.foreign_requests == []
