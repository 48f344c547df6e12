"""Files on the page in a browser: attached in every way, seen, removed, sent, edited and opened."""

import base64
from collections.abc import Callable
from typing import Any

import pytest

from tests.scripted_model import Script
from tests.ui.chat import pdfs
from tests.ui.web.served_page import Served, answers, eventually, shoot, wait_until_answered

# Gradio leaves its event loop and some sockets to the garbage collector when a page is closed.
pytestmark = [
    pytest.mark.usefixtures("nothing_is_wrong_in_the_browser"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
expect = pytest.importorskip("playwright.sync_api").expect

_HAND_OVER = """([kind, files]) => {
  const carried = new DataTransfer();
  for (const [name, data] of files) {
    carried.items.add(new File([Uint8Array.from(atob(data), (one) => one.charCodeAt(0))], name));
  }
  const more = { bubbles: true, cancelable: true };
  const target = document.querySelector(kind === "paste" ? "#box textarea" : "#chatbot");
  if (kind === "paste") return target.dispatchEvent(new ClipboardEvent("paste", { clipboardData: carried, ...more }));
  for (const step of ["dragenter", "dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(step, { dataTransfer: carried, ...more }));
  }
}"""


def hand_over(page: Any, kind: str, *files: tuple[str, bytes]) -> None:
    page.evaluate(_HAND_OVER, [kind, [[name, base64.b64encode(data).decode()] for name, data in files]])


def choose(page: Any, *files: tuple[str, bytes]) -> None:
    with page.expect_file_chooser() as chooser:
        page.click("#attach")
    chooser.value.set_files([{"name": name, "mimeType": "text/plain", "buffer": data} for name, data in files])


def names(page: Any) -> Any:
    return page.locator("#files .file-name")


def test_files_are_attached_by_button_paste_and_drop_and_reach_the_model(
    page: Any, serve: Callable[..., Served]
) -> None:
    served = serve(Script(answer="yes", tokens_per_s=2000))
    served.open(page)
    choose(page, ("prices.csv", b"apple,3"), ("photo.txt", b"\x89PNG\r\n\x1a\n\0"))
    expect(page.locator("#notice .notice")).to_contain_text("photo.txt is no text; its content is PNG.")
    expect(names(page)).to_have_text(["prices.csv"])
    hand_over(page, "paste", ("notes.md", b"```\nhello <|im_end|>\n```"))
    expect(names(page)).to_have_text(["prices.csv", "notes.md"])
    hand_over(page, "drop", ("report.pdf", pdfs.pdf("Profits rose")), ("spare.txt", b"spare"))
    expect(names(page)).to_have_text(["prices.csv", "notes.md", "report.pdf", "spare.txt"])
    expect(page.locator("body")).to_have_attribute("data-drop", "no")
    expect(page.locator("#files .file-facts").first).to_have_text("7 B · 7 tokens")
    expect(page.locator("#meter .meter-text")).to_contain_text("of 4,096 tokens")
    page.locator("#files .file-remove").nth(3).press("Enter")
    expect(names(page)).to_have_count(3)
    shoot(page, "files")
    page.locator("#files .file-open").nth(2).press("Enter")
    expect(page.locator("#file-sheet pre")).to_have_text("Profits rose")
    page.keyboard.press("Escape")
    expect(page.locator("#file-sheet .sheet")).to_have_count(0)
    page.reload()
    expect(names(page)).to_have_count(3)
    page.fill("#box textarea", "Compare them")
    page.press("#box textarea", "Enter")
    wait_until_answered(page)
    assert served.model.prompts[-1][-1].content == (
        "File: prices.csv\n```csv\napple,3\n```\n\n"
        "File: notes.md\n````md\n```\nhello <|im_end|>\n```\n````\n\n"
        "File: report.pdf\n```\nProfits rose\n```\n\nCompare them"
    )
    expect(names(page)).to_have_count(0)
    expect(page.locator("#chatbot .file-name")).to_have_text(["prices.csv", "notes.md", "report.pdf"])
    expect(page.locator("#chatbot")).not_to_contain_text("hello")
    page.click("#chatbot .act-file >> nth=1")
    expect(page.locator("#file-sheet pre")).to_have_text("```\nhello <|im_end|>\n```")
    page.keyboard.press("Escape")
    expect(page.locator("#chatbot .act-file").nth(1)).to_be_focused()


def test_a_long_text_that_is_pasted_becomes_a_file(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="yes", tokens_per_s=2000), context_length=1_000_000)
    served.open(page)
    paste = """(text) => {
      const carried = new DataTransfer();
      carried.setData("text/plain", text);
      const told = { clipboardData: carried, bubbles: true, cancelable: true };
      return document.querySelector("#box textarea").dispatchEvent(new ClipboardEvent("paste", told));
    }"""
    assert page.evaluate(paste, "a short one")  # the browser's own business
    assert not page.evaluate(paste, "猫" * 300_000)  # more than a request of a page may bring
    expect(names(page)).to_have_text(["pasted.txt"])
    expect(page.locator("#box textarea")).to_have_value("")
    page.fill("#box textarea", "What is it about?")
    page.press("#box textarea", "Enter")
    wait_until_answered(page)
    assert "猫" * 300_000 in served.model.prompts[-1][-1].content


def test_an_edited_question_keeps_its_files_and_a_file_alone_is_one(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="yes", tokens_per_s=2000))
    served.open(page)
    choose(page, ("notes.txt", b"buy milk"))
    page.press("#box textarea", "Enter")  # while it is on its way
    wait_until_answered(page)
    assert served.path()[0].content == "File: notes.txt\n```txt\nbuy milk\n```"
    expect(page.locator("#history .entry-title")).to_have_text("notes.txt")
    choose(page, ("other.txt", b"other"))
    expect(names(page)).to_have_text(["other.txt"])
    page.hover("#chatbot .user-row")
    page.click("#chatbot .question-foot .act-edit")
    expect(names(page)).to_have_text(["notes.txt"])
    page.click("#cancel-edit")
    expect(names(page)).to_have_text(["other.txt"])
    page.hover("#chatbot .user-row")
    page.click("#chatbot .question-foot .act-edit")
    expect(names(page)).to_have_text(["notes.txt"])
    page.fill("#box textarea", "What is on it?")
    page.press("#box textarea", "Enter")
    expect(answers(page)).to_contain_text("yes")
    eventually(lambda: len(served.model.prompts) == 2)
    assert served.model.prompts[-1][-1].content.endswith("buy milk\n```\n\nWhat is on it?")
    expect(page.locator("#chatbot .question-foot")).to_contain_text("2/2")
    expect(names(page)).to_have_text(["other.txt"])
    page.fill("#box textarea", "typed since")
    page.click("#chatbot .act-take-back")
    expect(page.locator("#box textarea")).to_have_value("What is on it?\n\ntyped since")
    expect(names(page)).to_have_text(["notes.txt", "other.txt"])


@pytest.mark.browser_page(locale="ja-JP", width=375, height=740, color_scheme="dark")
def test_a_file_that_is_gone_or_too_long_is_told_before_it_is_sent(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="はい", tokens_per_s=2000))
    served.open(page)
    choose(page, ("長い.txt", b"x" * 5000))
    expect(page.locator("#files .file-chip.is-over")).to_have_count(1)
    expect(page.locator("#meter .is-over")).to_contain_text("5,024 トークンと回答用の 256 トークン")
    page.fill("#box textarea", "要約して")
    page.press("#box textarea", "Enter")
    expect(page.locator("#notice .notice")).to_contain_text("長い.txt を含む質問は 5,030 トークンですが")
    shoot(page, "files-phone")
    served.page._files.drafts.forget(page.evaluate("localStorage.getItem('qwen-chat.owner')"))  # as after a restart
    page.press("#box textarea", "Enter")
    expect(page.locator("#notice .notice")).to_contain_text("もう一度添付してください")
    expect(names(page)).to_have_count(0)
    expect(page.locator("#box textarea")).to_have_value("要約して")
    assert served.path() == ()
