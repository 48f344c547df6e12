"""Conversations that leave the page as files and come back, in a browser."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser import output_folder
from tests.scripted_model import Script
from tests.ui.web.served_page import Served, answers, ask, eventually, shoot, wait_until_answered
from ui.chat.export import as_json, as_zip
from ui.chat.reading import DATA_CLOSING, DATA_OPENING

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("nothing_is_wrong_in_the_browser"),
]
expect = pytest.importorskip("playwright.sync_api").expect

ANSWER = r"""A **table**, some `code`, and $e^{i\pi} + 1 = 0$ for $5.

| Model | Size |
|:--|--:|
| Qwen3-4B | 4.0 B |

```python
def double(number: int) -> int:
    return 2 * number  # $not$ <b>math</b>
```

$$\begin{aligned} f(x) &= \int_0^x t\,dt \\ &= \frac{x^2}{2} \end{aligned}$$

1. 中文：**注意：**公式后面
   - nested
2. 日本語も <script>document.title = "owned"</script> 書けます

> A quotation with a [link](https://example.com) and a [bad one](javascript:alert(1)).
"""


def talk(page: Any, served: Served, text: str) -> None:
    before = len(served.model.prompts)
    ask(page, text)
    eventually(lambda: len(served.model.prompts) > before)
    eventually(lambda: all(path[-1].state != "streaming" for path in served.paths()))
    wait_until_answered(page)


def take_out(page: Any, kind: str) -> Path:
    """Exports and returns where the file was saved, under the name that it came with."""
    if page.get_attribute("body", "data-transfer") != "open":
        page.click("#to-transfer")
    with page.expect_download() as caught:
        page.click(f"#export-{kind}")
    path = output_folder() / caught.value.suggested_filename
    caught.value.save_as(path)
    expect(page.locator("#transfer")).to_be_hidden()
    return path


def bring_in(page: Any, name: str, data: bytes) -> None:
    if page.get_attribute("body", "data-transfer") != "open":
        page.click("#to-transfer")
    with page.expect_file_chooser() as chooser:
        page.click("#import-file")
    chooser.value.set_files({"name": name, "mimeType": "application/octet-stream", "buffer": data})


def trees(served: Served) -> list[dict[str, Any]]:
    """All conversations that are kept, as they would be exported."""
    database = served.page.conversations.database
    owners = {owner for owner, _id in database.oldest()}
    found = [one for owner in owners for one in served.page.conversations.trees(owner)]
    return [json.loads(as_json(record, messages)) for record, messages in found]


def test_a_conversation_is_exported_in_each_format_and_imported_as_it_was(
    page: Any, browser: Any, serve: Callable[..., Served]
) -> None:
    served = serve(Script(answer=ANSWER, reasoning="Let me think.", tokens_per_s=2000))
    served.open(page)
    talk(page, served, "Show me everything")
    page.click(".act-again")
    eventually(lambda: len(served.model.prompts) == 2)
    wait_until_answered(page)
    page.click("#to-transfer")
    shoot(page, "transfer")
    files = {kind: take_out(page, kind) for kind in ("md", "html", "json", "zip")}
    assert files["md"].name == "qwen-chat-Show-me-everything.md"
    assert ANSWER.strip() in files["md"].read_text(encoding="utf-8")
    (tree,) = trees(served)
    assert json.loads(files["json"].read_text(encoding="utf-8")) == tree
    assert len(tree["messages"]) == 3

    look_at_offline(browser, files["html"])
    for number, kind in enumerate(("json", "html", "zip"), start=2):
        bring_in(page, f"anything.{kind}", files[kind].read_bytes())
        expect(page.locator("#history .entry")).to_have_count(number)
        known = trees(served)
        assert len(known) == number
        assert all(one["messages"] == tree["messages"] for one in known)
    expect(page.locator("#trashed .trashed")).to_contain_text("was imported")
    expect(answers(page)).to_contain_text("A table, some code")
    shoot(page, "imported")


def look_at_offline(browser: Any, path: Path) -> None:
    """Opens the exported page without JavaScript and without a network, light, dark, narrow and printed."""
    for scheme, width in (("light", 1000), ("dark", 1000), ("light", 375)):
        context = browser.new_context(
            java_script_enabled=False, offline=True, color_scheme=scheme, viewport={"width": width, "height": 1500}
        )
        opened = context.new_page()
        said: list[str] = []
        opened.on("console", lambda message, said=said: said.append(message.text))
        opened.goto(path.as_uri())
        assert opened.title() == "Show me everything"
        expect(opened.locator("math")).to_have_count(2)
        expect(opened.locator("math mtr")).to_have_count(2)
        expect(opened.locator(".message.user .body")).to_have_text("Show me everything")
        expect(opened.locator("script:not([type='application/json'])")).to_have_count(0)
        expect(opened.locator("a[href]")).to_have_count(1)
        expect(opened.locator(".code pre")).to_contain_text("# $not$ <b>math</b>")
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert said == []
        opened.screenshot(path=output_folder() / f"export-{scheme}-{width}.png", full_page=True)
        context.close()
    context = browser.new_context(offline=True)  # with JavaScript allowed, the file's own policy has to hold
    opened = context.new_page()
    opened.goto(path.as_uri())
    assert opened.title() == "Show me everything"
    context.close()


def test_all_conversations_come_back_from_an_archive(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="yes", tokens_per_s=2000))
    served.open(page)
    for text in ("First one", "../../etc/passwd"):
        talk(page, served, text)
        page.click("#new")
        expect(page.locator("#welcome")).to_be_visible()
    packed = take_out(page, "zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert [name for name in archive.namelist() if name.endswith("json")] == [
            "0001-etc-passwd.json",
            "0002-First-one.json",
        ]
    bring_in(page, "all.zip", packed)
    expect(page.locator("#trashed .trashed")).to_have_text("2 conversations were imported.")
    expect(page.locator("#history .entry")).to_have_count(4)


def test_a_large_file_comes_in_pieces(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="yes", tokens_per_s=2000))
    served.open(page)
    talk(page, served, "Long one")
    (tree,) = trees(served)
    for number in range(2, 12):
        tree["messages"].append(
            {**tree["messages"][number % 2], "id": number + 1, "parent": number, "text": "好x" * 30_000}
        )
    tree["conversation"]["head"] = 12
    bring_in(page, "long.json", json.dumps(tree, ensure_ascii=False).encode())
    expect(page.locator("#history .entry")).to_have_count(2)
    assert sorted(len(one["messages"]) for one in trees(served)) == [2, 12]


BAD_FILES = [
    ("x.json", b"", "The file is empty"),
    ("x.json", b'{"format": "qwen-chat", "ver', "no whole JSON"),
    ("x.zip", b"PK\x03\x04rubbish", "damaged or locked"),
    ("x.html", b"<html></html>", "holds no conversation"),
    ("x.png", b"\x89PNG\r\n\x1a\n", "no text in UTF-8"),
]


def test_a_bad_file_is_refused_with_a_clear_line(page: Any, serve: Callable[..., Served]) -> None:
    served = serve()
    served.open(page)
    for name, data, said in BAD_FILES:
        bring_in(page, name, data)
        expect(page.locator("#notice .notice")).to_contain_text(said)
        assert trees(served) == []


@pytest.mark.browser_page(locale="ja-JP", width=375, height=740, color_scheme="dark")
def test_the_menu_fits_a_phone_and_speaks_japanese(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="はい", tokens_per_s=2000))
    served.open(page)
    talk(page, served, "こんにちは")
    page.click("#history .toggle-button")
    page.click("#to-transfer")
    page.wait_for_timeout(400)
    shoot(page, "transfer-phone")
    data = take_out(page, "html").read_text(encoding="utf-8")
    assert '<html lang="ja">' in data
    bring_in(page, "x.json", b"{}")
    page.press("body", "Escape")


def test_nothing_to_export_is_said(page: Any, serve: Callable[..., Served]) -> None:
    served = serve()
    served.open(page)
    page.click("#to-transfer")
    page.click("#export-zip")
    expect(page.locator("#notice .notice")).to_have_text("There is nothing to export yet.")
    page.click("#to-transfer")
    page.keyboard.press("Escape")
    expect(page.locator("#transfer")).to_be_hidden()


def test_markers_of_the_page_cannot_be_forged_from_inside() -> None:
    assert "<" not in as_json_of_page(f"{DATA_CLOSING}{DATA_OPENING}<!--<script>")


def as_json_of_page(text: str) -> str:
    from ui.chat.conversation import Conversation
    from ui.web.html_export import as_html

    conversation = Conversation("a" * 32)
    conversation.add_user(text)
    page = as_html(*conversation.tree(), "en")
    assert as_zip([conversation.tree()], {"user": "You"}, "x")
    return page.partition(DATA_OPENING)[2].partition(DATA_CLOSING)[0]
