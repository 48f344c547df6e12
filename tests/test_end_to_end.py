"""The application as a user meets it, on the built-in checkpoint: in a browser, and as a program."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from model_loader.background_load import BackgroundLoad
from model_loader.chat_format.messages import Message
from model_loader.chat_model import ChatModel
from model_loader.engine.request import Sampling
from model_loader.events import Event
from model_loader.loading.placement import LoadOptions
from model_loader.open_model import open_chat_model
from model_loader.progress import ReportProgress
from tests.benchmarks.start import free_port
from tests.browser import output_folder, watch
from tests.ui.web.served_page import answers, ask, eventually, is_cut_by_leaving
from ui.web.launch import ServedPage, launch_page
from ui.web.options import PageOptions

# Gradio leaves its event loop and some sockets to the garbage collector when a page is closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
expect = pytest.importorskip("playwright.sync_api").expect

ROOT = Path(__file__).parent.parent
SHOW_ME_CODE = "Show me some Python code"


class PacedModel(ChatModel):
    """The real model at reading pace, so that there is time to press a button; its tokens are its own."""

    token_s = 0.0

    def stream(self, messages: Sequence[Message], sampling: Sampling | None = None, **options: Any) -> Generator[Event]:
        """Every event of the real stream, each a little later."""
        with contextlib.closing(super().stream(messages, sampling, **options)) as events:
            for event in events:
                time.sleep(self.token_s)
                yield event


def open_paced(report: ReportProgress) -> ChatModel:
    chat_model = open_chat_model("builtin", LoadOptions(cpu_only=True), report)
    chat_model.__class__ = PacedModel
    return chat_model


@pytest.fixture(scope="module")
def served() -> Iterator[ServedPage]:
    page = launch_page(BackgroundLoad(open_paced), PageOptions(server_port=free_port(), linger_s=1.5))
    yield page
    page.close()
    gc.collect()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """About 25 tokens a second."""
    monkeypatch.setattr(PacedModel, "token_s", 0.04)


def open_page(served: ServedPage, page: Any) -> None:
    page.goto(served.url)
    page.wait_for_selector("body[data-attached=yes]")


def last_answer(served: ServedPage) -> Any:
    paths = [one.path() for one in served.conversations._loaded.values()]
    return max((path[-1] for path in paths if path), key=lambda message: message.created)


def wait_for_end(page: Any, number: int = 1) -> None:
    """Waits until so many answers have their line of figures."""
    expect(page.locator("#chatbot .foot:not(.live)")).to_have_count(number, timeout=60_000)


GUIDED = [
    ("How do I load a bigger model?", "-c Qwen/Qwen3-4B"),
    ("怎么加载更大的模型？", "-c Qwen/Qwen3-4B"),
    ("もっと大きなモデルを読み込むには？", "-c Qwen/Qwen3-4B"),
    ("What is the capital of Mongolia?", "app.py"),
]


def test_the_guide_answers_in_three_languages_and_never_pretends(served: ServedPage, page: Any) -> None:
    open_page(served, page)
    for question, expected in GUIDED:
        ask(page, question)
        wait_for_end(page)
        expect(answers(page)).to_contain_text(expected)
        expect(page.locator("#chatbot .foot")).to_contain_text("tokens/s")
        page.click("#new")
        expect(answers(page)).to_have_count(0)
    assert [said for said in page.page_errors if not is_cut_by_leaving(said)] == []
    assert page.foreign_requests == []


@pytest.mark.timed
@pytest.mark.usefixtures("slow")
def test_an_answer_streams_is_stopped_and_is_made_again(served: ServedPage, page: Any) -> None:
    open_page(served, page)
    ask(page, SHOW_ME_CODE)
    lengths: set[int] = set()
    deadline = time.monotonic() + 30
    while len(lengths) < 4 and time.monotonic() < deadline:
        if answers(page).count() and last_answer(served).text:  # before, the load and the prompt are told there
            lengths.add(len(answers(page).last.text_content()))
        time.sleep(0.05)
    assert len(lengths) >= 4
    pressed = time.monotonic()
    page.click("#stop")
    wait_for_end(page)
    assert time.monotonic() - pressed < 2
    stopped = last_answer(served)
    assert stopped.state == "stopped"
    assert stopped.text
    page.click("#chatbot .act-again")
    expect(page.locator("#chatbot")).to_contain_text("2/2", timeout=60_000)
    assert last_answer(served).state == "complete"


@pytest.mark.timed
@pytest.mark.usefixtures("slow")
def test_a_reload_finds_the_answer_still_streaming(served: ServedPage, page: Any) -> None:
    open_page(served, page)
    ask(page, SHOW_ME_CODE)
    expect(answers(page)).to_have_count(1)
    page.reload()
    page.wait_for_selector("body[data-attached=yes]")
    assert last_answer(served).state == "streaming"
    wait_for_end(page)
    assert last_answer(served).state == "complete"


@pytest.mark.usefixtures("slow")
def test_an_answer_ends_as_interrupted_when_its_tab_stays_closed(served: ServedPage, page: Any) -> None:
    open_page(served, page)
    ask(page, SHOW_ME_CODE)
    expect(answers(page)).to_have_count(1)
    message = last_answer(served)
    page.close()
    eventually(lambda: last_answer(served).state != "streaming", 15)
    assert last_answer(served).id == message.id
    assert last_answer(served).state == "interrupted"


def test_clearing_can_be_undone(served: ServedPage, page: Any) -> None:
    open_page(served, page)
    ask(page, "Hello!")
    wait_for_end(page)
    page.click("#clear")
    expect(answers(page)).to_have_count(0)
    page.click("#undo")
    expect(answers(page)).to_have_count(1)


def test_two_tabs_have_conversations_of_their_own(served: ServedPage, page: Any) -> None:
    open_page(served, page)
    ask(page, "Hello!")
    wait_for_end(page)
    other = page.context.new_page()
    watch(other)
    open_page(served, other)
    expect(answers(other)).to_have_count(0)
    ask(other, "你好！")
    wait_for_end(other)
    expect(answers(page)).to_have_count(1)
    assert other.page_errors == []


@pytest.mark.browser_page(locale="en-US", width=1280, height=860)
def test_a_conversation_looks_as_it_should(served: ServedPage, page: Any) -> None:
    open_page(served, page)
    questions = ["Show me a table", SHOW_ME_CODE, "Show me a formula"]
    for number, question in enumerate(questions, start=1):
        ask(page, question)
        wait_for_end(page, number)
    expect(page.locator("#chatbot table")).not_to_have_count(0)
    expect(page.locator("#chatbot pre code")).not_to_have_count(0)
    expect(page.locator("#chatbot .katex")).not_to_have_count(0)
    assert page.locator("#chatbot .katex-error").count() == 0
    page.screenshot(path=output_folder() / "conversation.png")


@contextlib.contextmanager
def program(*arguments: str, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Runs app.py on a free port; every connection it opens to another machine is refused and written down."""
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\n"
        "connect = socket.socket.connect\n"
        "def checked(self, address):\n"
        "    if isinstance(address, tuple) and address[0] not in ('127.0.0.1', '::1', 'localhost'):\n"
        f"        open({str(tmp_path / 'connections')!r}, 'a').write(f'{{address}}\\n')\n"
        "        raise OSError('no network in this test')\n"
        "    return connect(self, address)\n"
        "socket.socket.connect = checked\n"
    )
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-u", "app.py", "--server-port", str(port), *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process, port
    finally:
        process.kill()
        process.communicate()


def read_until(process: "subprocess.Popen[str]", beginning: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if line.startswith(beginning):
            return lines
    raise AssertionError(f"the program ended before it said {beginning!r}: {lines}")


def test_the_program_starts_answers_and_ends_in_order_without_any_outside_connection(page: Any, tmp_path: Path) -> None:
    with program("--cpu-only", tmp_path=tmp_path) as (process, port):
        lines = read_until(process, "Ready: builtin in float32 on cpu, because ")
        assert f"The page is at http://127.0.0.1:{port}/" in lines
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("body[data-attached=yes]")
        ask(page, "Hello!")
        wait_for_end(page)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert time.monotonic() - began < 10
    assert not (tmp_path / "connections").exists()


def test_a_checkpoint_that_cannot_be_loaded_is_told_in_the_terminal_and_on_the_page(page: Any, tmp_path: Path) -> None:
    with program("-c", "/no/such/folder", tmp_path=tmp_path) as (process, port):
        assert "There is no folder '/no/such/folder'" in read_until(process, "No model: ")[-1]
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.locator("body")).to_contain_text("There is no folder '/no/such/folder'")


def test_a_port_that_is_taken_ends_with_one_line(served: ServedPage, tmp_path: Path) -> None:
    port = served.url.rsplit(":", 1)[1].strip("/")
    result = subprocess.run(
        [sys.executable, "app.py", "--server-port", port], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert f"--server-port {port}: Address already in use. Stop the program" in result.stderr
    assert "Traceback" not in result.stderr
