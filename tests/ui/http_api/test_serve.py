"""`app.py serve` as a program: its flags, its signals and what it says."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import app
from tests.benchmarks.start import free_port
from tests.ui.http_api.served_api import HELLO, eventually
from ui.http_api.options import read_options

ROOT = Path(__file__).resolve().parents[3]
SERVE = """
import sys
from tests.scripted_model import Script, ScriptedLoad, ScriptedModel
from ui.http_api.serve import serve_api
from ui.http_api.server import Api
load = ScriptedLoad(ScriptedModel(Script(answer="word " * int(sys.argv[2]), tokens_per_s=20)))
sys.exit(serve_api(load, Api(load), "127.0.0.1", int(sys.argv[1])))
"""


@pytest.fixture
def serve() -> Iterator[Callable[[int], tuple["subprocess.Popen[str]", str]]]:
    """Starts the API with an answer of so many words, twenty a second."""
    started: list[subprocess.Popen[str]] = []

    def start(num_words: int) -> tuple["subprocess.Popen[str]", str]:
        port = free_port()
        command = [sys.executable, "-c", SERVE, str(port), str(num_words)]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == f"The API is at http://127.0.0.1:{port}/v1\n"
        return started[-1], f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "num_words"), [(signal.SIGTERM, 20), (signal.SIGINT, 2000)])
def test_a_signal_lets_streams_end_or_cuts_them_and_exits_with_0(
    serve: Callable[[int], tuple[Any, str]], number: signal.Signals, num_words: int
) -> None:
    process, url = serve(num_words)
    lines: list[str] = []

    def read() -> None:
        body = {"model": "scripted", "messages": HELLO, "stream": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=20) as answer:
            lines.extend(line for line in answer.iter_lines() if line)

    reader = threading.Thread(target=read)
    reader.start()
    eventually(lambda: b"qwen_chat_running 1" in httpx.get(f"{url}/metrics").content)
    sent_s = time.monotonic()
    process.send_signal(number)
    eventually(lambda: httpx.get(f"{url}/ready").json() == {"status": "draining"})
    process.communicate(timeout=15)
    assert process.returncode == 0
    assert time.monotonic() - sent_s < 10
    reader.join(5)
    assert lines[-1] == "data: [DONE]"
    assert ('"finish_reason":"stop"' in lines[-2]) == (num_words == 20)


@pytest.mark.timed
def test_a_second_signal_ends_it_at_once(serve: Callable[[int], tuple[Any, str]]) -> None:
    process, url = serve(2000)
    body = {"model": "scripted", "messages": HELLO, "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=20):
        process.send_signal(signal.SIGTERM)
        eventually(lambda: httpx.get(f"{url}/ready").status_code == 503)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=2)
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--server-name", "0.0.0.0"], "The API needs a key there: others can reach 0.0.0.0"),
        (["--server-port", "0"], "--server-port is 0"),
        (["--server-name", "no.such.name.invalid", "--api-key", "k"], "is no address of this machine"),
        (["--api-key", ""], "A key of the API is empty"),
        (["--api-key-file", "/no/such/file"], "--api-key-file /no/such/file cannot be read"),
        (["--cors-origin", "*"], "--cors-origin has '*'"),
    ],
)
def test_bad_values_end_with_one_line_and_status_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["serve", *arguments], {}) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.err.count("\n") == 1


def test_a_taken_port_ends_with_one_line(
    serve: Callable[[int], tuple[Any, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    _process, url = serve(1)
    port = url.rsplit(":", 1)[1]
    assert app.main(["serve", "--server-port", port], {}) == 2
    assert f"The API cannot listen on 127.0.0.1 with --server-port {port}" in capsys.readouterr().err


def test_the_key_may_be_an_environment_variable_and_others_variables_are_left_alone() -> None:
    parser = app.build_serve_parser()
    environment = {"QWEN_DEMO_API_KEY": "k", "QWEN_DEMO_API_KEY_FILE": "keys", "QWEN_DEMO_LINGER": "3"}
    given = parser.parse_args(app.environment_arguments(parser, environment))
    assert (given.api_key, given.api_key_file) == ("k", Path("keys"))


def test_without_a_model_it_ends_so_that_who_keeps_it_running_notices() -> None:
    program = [sys.executable, "app.py", "serve", "--server-port", str(free_port()), "-c", "/no/such/folder"]
    ended = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "No model: " in ended.stdout


def test_a_key_file_written_on_windows_is_read(tmp_path: Path) -> None:
    place = tmp_path / "keys"
    place.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert read_options(None, place, None).keys == ("one", "two")


def test_help_of_serve_imports_no_web_library() -> None:
    program = (
        "import sys, app\n"
        "try: app.main(['serve', '--help'], {})\n"
        "except SystemExit: pass\n"
        "names = ('torch', 'gradio', 'openai', 'starlette', 'uvicorn', 'pydantic')\n"
        "print([name for name in names if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"
    assert "--api-key-file" in result.stdout
