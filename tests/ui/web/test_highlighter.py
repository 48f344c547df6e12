"""The highlighter's script, and what the page is told about it."""

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ui.web.highlighter import HIGHLIGHTER_ROUTES, highlighter_routes, rendering_script
from ui.web.launch import page_policy
from ui.web.options import PageOptions
from ui.web.strings import LANGUAGES, Language, say


def test_the_script_is_served_for_good_at_the_one_address_that_the_guard_opens() -> None:
    (allowed,) = HIGHLIGHTER_ROUTES
    assert allowed in page_policy(PageOptions(), {}).routes
    assert not allowed.is_prefix
    answer = TestClient(Starlette(routes=highlighter_routes())).get(allowed.path)
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]
    assert "License: BSD-3-Clause" in answer.text
    assert f'"{allowed.path.removeprefix("/")}"' in rendering_script()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_told_the_names_of_its_buttons(language: Language) -> None:
    for key in ("copy_code", "wrap_lines", "footnote_back", "diagram_failed"):
        assert say(language, key) in rendering_script()
