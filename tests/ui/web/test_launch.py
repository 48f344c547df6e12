"""Opening and ending the page as a program: the port, the environment, the signals."""

import gc
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from model_loader.errors import InvalidSetting
from tests.scripted_model import Script, ScriptedLoad, ScriptedModel
from ui.guard import Guard
from ui.web.environment import close_doors
from ui.web.launch import launch_page, page_head, page_policy
from ui.web.login.options import SharingOptions
from ui.web.options import PageOptions

# Gradio leaves its event loop and some sockets to the garbage collector when a page is closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).resolve().parents[3]
SERVE = """
import sys
from tests.scripted_model import Script, ScriptedLoad, ScriptedModel, many_words
from ui.web.launch import serve_page
from ui.web.options import PageOptions
model = ScriptedModel(Script(answer=many_words(2000), tokens_per_s=30))
sys.exit(serve_page(ScriptedLoad(model), PageOptions(server_port=int(sys.argv[1]))))
"""
OPEN = """
import sys, time
began = time.process_time()
import gradio
imported = time.process_time()
from tests.scripted_model import ScriptedLoad, ScriptedModel
from ui.web.launch import launch_page
from ui.web.options import PageOptions
class Load(ScriptedLoad):
    def start(self):
        print("opened", time.process_time() - imported, "torch" in sys.modules, flush=True)
page = launch_page(Load(ScriptedModel()), PageOptions(server_port=int(sys.argv[1])))
page.close()
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def run() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python programs in the repository and ends those that are left."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", program, *arguments],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for_port(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, line
    return found[0]


@pytest.mark.timed
def test_the_port_opens_soon_after_gradio_is_imported_and_before_torch(run: Callable[..., Any]) -> None:
    process = run(OPEN, str(free_port()))
    output, _ = process.communicate(timeout=60)
    found = re.search(r"opened ([\d.]+) (True|False)", output)
    assert found, output
    assert float(found[1]) < 1.0
    assert found[2] == "False"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_the_partial_answer_and_exits_with_0(
    browser: Any, run: Callable[..., Any], number: signal.Signals
) -> None:
    process = run(SERVE, str(free_port()))
    page = browser.new_page()
    page.goto(wait_for_port(process))
    page.wait_for_selector("body[data-attached=yes]")
    page.fill("#box textarea", "hello")
    page.press("#box textarea", "Enter")
    page.wait_for_selector("#chatbot .bot-row:has-text('word0 word1')")
    sent = time.monotonic()
    process.send_signal(number)
    page.wait_for_selector("#chatbot .facts:has-text('Interrupted')")
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert time.monotonic() - sent < 10
    page.close()


def test_a_taken_port_is_named_with_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        load = ScriptedLoad(ScriptedModel(Script()))
        with pytest.raises(InvalidSetting, match=f"--server-port {port}"):
            launch_page(load, PageOptions(server_port=port))  # type: ignore[arg-type]
        assert not load.has_started


def test_dangerous_variables_are_dropped_and_telemetry_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRADIO_SHARE", "GRADIO_ALLOWED_PATHS", "GRADIO_VIBE_MODE", "GRADIO_NODE_PATH", "GRADIO_SERVER_NAME"):
        monkeypatch.setenv(name, "/")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    close_doors()
    left = {name for name in os.environ if name.startswith("GRADIO_")}
    assert left <= {
        "GRADIO_ANALYTICS_ENABLED",
        "GRADIO_ANALYTICS_CACHE_FREQUENCY",
        "GRADIO_ANALYTICS_MAX_EVENTS",
        "GRADIO_TEMP_DIR",
    }
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_a_page_for_this_machine_answers_to_no_other_name() -> None:
    policy = page_policy(PageOptions(), {})
    assert policy.allows_host("localhost")
    assert not policy.allows_host("evil.example")
    assert not policy.trusted_proxy
    assert policy.frame_ancestors == ()


def test_a_page_for_the_network_answers_to_this_machines_own_names() -> None:
    policy = page_policy(PageOptions(server_name="0.0.0.0", sharing=SharingOptions(is_public=True)), {})
    assert policy.allows_host(socket.gethostname())
    assert not policy.allows_host("evil.example")


def test_a_page_for_the_network_behind_a_login_answers_to_every_name_it_may_have_there() -> None:
    assert page_policy(PageOptions(server_name="0.0.0.0"), {}).allows_host("mybox.corp.example")
    proxied = SharingOptions(trusted_proxy="chat.example")
    assert not page_policy(PageOptions(server_name="0.0.0.0", sharing=proxied), {}).allows_host("evil.example")


def test_a_space_may_show_the_page_in_its_frame() -> None:
    policy = page_policy(PageOptions(), {"SPACE_ID": "me/chat", "SPACE_HOST": "me-chat.hf.space"})
    assert policy.allows_host("me-chat.hf.space")
    assert policy.trusted_proxy
    assert "https://huggingface.co" in policy.content_security_policy()


def test_the_guard_stands_outside_of_everything() -> None:
    page = launch_page(ScriptedLoad(ScriptedModel(Script())), PageOptions(server_port=free_port()))  # type: ignore[arg-type]
    try:
        assert isinstance(page.blocks.app.middleware_stack, Guard)
    finally:
        page.close()
        gc.collect()


@pytest.mark.parametrize("no_proxy", [None, "example.com"])
def test_a_proxy_in_the_environment_does_not_keep_the_page_from_opening(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str | None
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:9" if name == "ALL_PROXY" else "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    if no_proxy is not None:
        monkeypatch.setenv("no_proxy", no_proxy)
    launch_page(ScriptedLoad(ScriptedModel(Script())), PageOptions(server_port=free_port())).close()  # type: ignore[arg-type]
    gc.collect()
    assert os.environ.get("no_proxy") == no_proxy


def test_the_head_holds_style_and_script_and_names_no_other_host() -> None:
    head = page_head()
    assert "<style>" in head
    assert "<script>" in head
    assert "<!--" not in head
    assert set(re.findall(r"https?://[\w.]+", head)) <= {"http://www.w3.org"}
