"""The page in front of a server elsewhere: what it shows of the model, an answer, and a connection that is lost."""

import gc
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from model_loader.background_load import BackgroundLoad
from model_loader.remote.options import RemoteOptions
from model_loader.remote.remote_model import open_remote_model
from tests.api_stub import CUT, DONE, HANG, ApiStub, card, chunk, refusal, serve, stream, usage
from tests.benchmarks.start import free_port
from tests.ui.web.served_page import answers, ask, eventually, shoot, wait_until_answered
from ui.web.launch import ServedPage, launch_page
from ui.web.options import PageOptions

# Gradio leaves its event loop and some sockets to the garbage collector when a page is closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture(scope="module")
def stub() -> Iterator[ApiStub]:
    with serve(ApiStub(card("Qwen/Qwen3-4B", owned_by="vllm", max_model_len=40_960))) as stub:
        yield stub


@pytest.fixture(scope="module")
def served(stub: ApiStub) -> Iterator[ServedPage]:
    load = BackgroundLoad(partial(open_remote_model, RemoteOptions(stub.url), "builtin"))
    page = launch_page(load, PageOptions(server_port=free_port(), is_remote=True))
    yield page
    page.close()
    gc.collect()


@pytest.fixture
def opened(served: ServedPage, page: Any) -> Iterator[Any]:
    page.goto(served.url)
    page.wait_for_selector("body[data-attached=yes]")
    yield page
    assert page.page_errors == []
    assert page.foreign_requests == []


def test_the_page_says_where_the_model_is_and_an_answer_comes_through(stub: ApiStub, opened: Any) -> None:
    expect(opened.locator("#card")).to_contain_text(f"another program, vLLM at {stub.url}")
    expect(opened.locator("#card")).to_contain_text("40,960 tokens")
    expect(opened.locator("#model-menu")).to_have_count(0)
    expect(opened.locator("#greeting-more")).to_contain_text("on to the server whose model answers")
    answer_with_reasoning_and_what_it_cost(stub, opened)


def answer_with_reasoning_and_what_it_cost(stub: ApiStub, opened: Any) -> None:
    thought = [chunk(reasoning_content="Let me "), chunk(reasoning_content="think.")]
    stub.answers_chats(
        stream(
            *thought,
            chunk(content="**Bold** "),
            0.3,
            chunk(content="answer."),
            chunk("stop"),
            usage(1500, 9, 1480),
            DONE,
        )
    )
    opened.fill("#box textarea", "Is it far?")
    expect(opened.locator("#meter")).to_contain_text("≈")
    ask(opened, "Is it far?")
    wait_until_answered(opened)
    expect(answers(opened).last).to_contain_text("Bold answer.")
    expect(opened.locator("#chatbot")).to_contain_text("Thought for")
    expect(opened.locator("#chatbot .foot")).to_contain_text("9 tokens")
    expect(opened.locator("#chatbot .foot")).to_contain_text("1,480 known from before")
    shoot(opened, "remote")


def test_a_lost_connection_a_stop_and_a_refusal_are_told(stub: ApiStub, opened: Any) -> None:
    for staged in (lose_the_connection, stop, be_refused):
        staged(stub, opened)
        opened.click("#new")
        expect(answers(opened)).to_have_count(0)


def lose_the_connection(stub: ApiStub, opened: Any) -> None:
    """What has arrived is kept."""
    stub.answers_chats(stream(chunk(content="Half of an "), CUT))
    ask(opened, "Is it far?")
    expect(opened.locator("#chatbot .failure")).to_contain_text("was lost in the middle of the answer")
    expect(answers(opened).last).to_contain_text("Half of an")
    shoot(opened, "remote-lost")


def stop(stub: ApiStub, opened: Any) -> None:
    """It reaches the server."""
    stub.has_left.clear()
    stub.answers_chats(stream(chunk(content="For ever "), HANG))
    ask(opened, "Go on")
    expect(answers(opened).last).to_contain_text("For ever")
    opened.click("#stop")
    assert stub.has_left.wait(5)
    expect(opened.locator("#chatbot .foot").last).to_contain_text("Stopped")


def be_refused(stub: ApiStub, opened: Any) -> None:
    """It is shown in one sentence."""
    stub.answers_chats(refusal(401, "Incorrect API key provided"))
    ask(opened, "Hello")
    expect(opened.locator("#chatbot .failure")).to_contain_text("refuses the key (401)")
    eventually(lambda: stub.num_open <= 2)
