"""A connection that is slow, broken, hostile or given up: what its reader is told, and that nothing stays behind."""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from model_loader.chat_format.messages import Message
from model_loader.errors import (
    EngineStopped,
    GenerationFailed,
    ModelLoaderError,
    ServerBusy,
    ServerIncompatible,
    ServerUnreachable,
)
from model_loader.events import Event, Finished, TextDelta, Waiting
from model_loader.remote import connection as connection_module
from model_loader.remote.connection import Connection
from model_loader.remote.options import RemoteOptions
from model_loader.remote.remote_model import RemoteModel, open_remote_model
from model_loader.remote.server_sent_events import MAX_EVENT_BYTES
from tests.api_stub import CUT, DONE, HANG, Answer, ApiStub, as_json, chat, chunk, event, refusal, stream, usage

pytestmark = pytest.mark.timed

QUESTION = [Message("user", "My diary: nobody may read this.")]


def eventually(is_so: object, timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def read(model: RemoteModel) -> list[Event]:
    return [event for event in model.stream(QUESTION) if not isinstance(event, Waiting)]


def _collect(model: RemoteModel, arrived: list[str]) -> None:
    for each in model.stream(QUESTION):
        if isinstance(each, TextDelta):
            arrived.append(each.text)


def failure(model: RemoteModel) -> tuple[str, ModelLoaderError]:
    """What arrived, and the error after it."""
    arrived: list[str] = []
    with pytest.raises(ModelLoaderError) as caught:
        _collect(model, arrived)
    assert "diary" not in str(caught.value)
    assert "a-secret-key" not in str(caught.value)
    return "".join(arrived), caught.value


def test_a_reader_is_told_several_times_a_second_that_nothing_has_come(stub: ApiStub, model: RemoteModel) -> None:
    stub.answers_chats(stream(1.0, chunk(content="late"), chunk("stop"), DONE))
    began = time.monotonic()
    events = list(model.stream(QUESTION))
    assert 3 <= sum(isinstance(each, Waiting) for each in events) <= 8
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert 0.9 < finished.usage.first_token_s < time.monotonic() - began


@pytest.mark.parametrize("before", [(), (chunk(content="one"),), (chunk(content="one"), event({"choices": []}))])
def test_leaving_closes_the_connection_at_once(stub: ApiStub, model: RemoteModel, before: tuple[bytes, ...]) -> None:
    stub.answers_chats(stream(*before, HANG))
    events = model.stream(QUESTION)
    while not isinstance(next(events), TextDelta if before else Waiting):
        pass
    assert model.activity.num_running == 1
    began = time.monotonic()
    events.close()
    assert stub.has_left.wait(2)
    assert time.monotonic() - began < 0.5
    assert model.activity.num_running == 0


def test_leaving_before_the_status_has_come_closes_the_connection_too(stub: ApiStub, model: RemoteModel) -> None:
    slow = threading.Event()

    def answer(asked: object) -> Answer:
        slow.wait(5)
        return chat("late")

    stub.answers_chats(answer)
    events = model.stream(QUESTION)
    next(events)
    events.close()
    slow.set()
    eventually(lambda: stub.num_open <= 1)


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """A port whose connections are never accepted, so that making one takes for ever."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        time.sleep(0.1)
        yield port


def test_leaving_while_the_connection_is_being_made() -> None:
    with deaf_port() as port:
        connection = Connection(RemoteOptions(f"http://127.0.0.1:{port}/v1"))
        events = connection.stream(f"http://127.0.0.1:{port}/v1/chat/completions", {})
        assert next(events) == Waiting(0)
        began = time.monotonic()
        events.close()
        connection.close()
        assert time.monotonic() - began < 1.0


def test_a_server_that_says_nothing_at_all_is_given_up() -> None:
    with (
        deaf_port() as port,
        contextlib.closing(Connection(RemoteOptions(f"http://127.0.0.1:{port}/v1"))) as silent,
        pytest.raises(ServerUnreachable, match="does not take the connection"),
    ):
        silent.ask("GET", f"http://127.0.0.1:{port}/v1/models", timeout_s=0.3)


def test_nothing_stays_behind(stub: ApiStub) -> None:
    process = psutil.Process()
    threads_before = {thread for thread in threading.enumerate() if "remote" in thread.name}
    model = open_remote_model(RemoteOptions(stub.url), "builtin", lambda progress: None)
    for number in range(30):
        stub.answers_chats(
            chat("x") if number % 3 == 0 else stream(chunk(content="x"), CUT if number % 3 == 1 else HANG)
        )
        with contextlib.suppress(GenerationFailed), contextlib.closing(model.stream(QUESTION)) as events:
            for each in events:
                if isinstance(each, TextDelta) and number % 3 == 2:
                    break
    eventually(lambda: stub.num_open <= 2)
    assert stub.num_connections < 30, "connections are used again"
    model.close()
    model.close()
    eventually(lambda: stub.num_open == 0)
    assert {thread for thread in threading.enumerate() if thread.name == "remote"} == threads_before
    ours = [each for each in process.net_connections("tcp") if each.raddr and each.raddr.port == stub.port]
    assert [each for each in ours if each.status == psutil.CONN_ESTABLISHED] == []


def test_many_answers_at_once(stub: ApiStub, model: RemoteModel) -> None:
    stub.answers_chats(
        stream(*(chunk(content=f"{number} ") for number in range(200)), chunk("stop"), usage(5, 200), DONE)
    )
    expected = "".join(f"{number} " for number in range(200))
    answers: list[str] = []

    def ask() -> None:
        answers.append("".join(each.text for each in read(model) if isinstance(each, TextDelta)))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 20


def test_closing_the_model_ends_its_answers_and_refuses_new_ones(stub: ApiStub, model: RemoteModel) -> None:
    stub.answers_chats(stream(chunk(content="one"), HANG))
    events = model.stream(QUESTION)
    while not isinstance(next(events), TextDelta):
        pass
    model.close()
    with pytest.raises(EngineStopped, match="was closed"):
        list(events)
    with pytest.raises(EngineStopped):
        list(model.stream(QUESTION))
    assert stub.has_left.wait(2)


# What goes wrong before an answer


def test_a_refused_connection_is_told_and_counts_as_a_problem_for_a_while(
    stub: ApiStub, model: RemoteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_loader.remote.remote_model._PROBLEM_S", 0.3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(model, "_options", RemoteOptions(f"http://127.0.0.1:{port}/v1"))
    assert model.problem is None
    with pytest.raises(ServerUnreachable, match=r"refuses the connection\. Start it, or correct --base-url"):
        read(model)
    assert "refuses the connection" in (model.problem or "")
    eventually(lambda: model.problem is None)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://no-such-host.invalid/v1", "has a name that is not known here"),
        ("http://a..b/v1", "has a name that is not known here"),
        ("https://127.0.0.1:{port}/v1", "does not speak TLS; use http://"),
    ],
)
def test_names_and_tls(stub: ApiStub, url: str, words: str) -> None:
    with pytest.raises(ServerUnreachable, match=words):
        open_remote_model(RemoteOptions(url.format(port=stub.port)), "builtin", lambda progress: None)
    assert [thread for thread in threading.enumerate() if thread.name == "remote"] == []


def test_a_connection_that_ends_without_an_answer_is_tried_once_more(stub: ApiStub, model: RemoteModel) -> None:
    answers = iter([None, chat("second")])

    def answer(asked: object) -> Answer:
        following = next(answers)
        if following is None:
            raise OSError  # the server ends the connection
        return following

    stub.answers_chats(answer)
    assert TextDelta("second") in read(model)

    def end(asked: object) -> Answer:
        raise OSError

    stub.answers_chats(end)
    assert "ends the connection without an answer" in str(failure(model)[1])
    assert len(stub.bodies()) == 4


def test_a_busy_server_is_asked_again_as_it_says(stub: ApiStub, model: RemoteModel) -> None:
    stub.answers_chats(refusal(429, "full", retry_after="0.8"), refusal(503, "full"), chat("at last"))
    began = time.monotonic()
    events = list(model.stream(QUESTION))
    assert TextDelta("at last") in events
    assert any(isinstance(each, Waiting) for each in events)
    assert 1.7 < time.monotonic() - began < 4
    assert len(stub.bodies()) == 3


def test_a_reader_can_leave_while_a_busy_server_is_waited_for(stub: ApiStub, model: RemoteModel) -> None:
    stub.answers_chats(refusal(429, "full", retry_after="20"))
    events = model.stream(QUESTION)
    next(events)
    began = time.monotonic()
    events.close()
    assert time.monotonic() - began < 0.5


def test_a_server_that_stays_busy_is_given_up(
    stub: ApiStub, model: RemoteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_FIRST_PAUSE_S", 0.01)
    stub.answers_chats(refusal(429, "full"))
    _arrived, error = failure(model)
    assert isinstance(error, ServerBusy)
    assert len(stub.bodies()) == 4


def test_a_server_that_asks_for_more_patience_than_there_is_is_told_at_once(stub: ApiStub, model: RemoteModel) -> None:
    stub.answers_chats(refusal(503, "closed for today", retry_after="3600"))
    began = time.monotonic()
    assert "Ask again in 3600 s. It says: closed for today" in str(failure(model)[1])
    assert time.monotonic() - began < 0.5


# What goes wrong in the middle of one


@pytest.mark.parametrize(
    "answer",
    [
        stream(chunk(content="half of"), CUT),
        Answer([chunk(content="half of"), CUT], kind="text/event-stream", headers={"Content-Length": "9999"}),
        Answer([chunk(content="half of"), CUT], kind="text/event-stream", headers={"Content-Length": ""}),
        stream(chunk(content="half of")),
    ],
)
def test_a_lost_connection_keeps_what_has_arrived_and_raises_where_it_is_read(
    stub: ApiStub, model: RemoteModel, answer: Answer
) -> None:
    stub.answers_chats(answer)
    arrived, error = failure(model)
    assert arrived == "half of"
    assert isinstance(error, GenerationFailed)
    assert "What has arrived is kept" in str(error)
    assert len(stub.bodies()) == 1, "nothing is asked again once it has begun"


def test_an_error_inside_of_the_stream(stub: ApiStub, model: RemoteModel) -> None:
    stub.answers_chats(stream(chunk(content="half"), event({"error": {"message": "worker died", "code": 500}}), DONE))
    arrived, error = failure(model)
    assert (arrived, type(error)) == ("half", GenerationFailed)
    assert "worker died" in str(error)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (stream(event("{not json")), "no JSON object"),
        (stream(event('["a list"]')), "no JSON object"),
        (stream(event("[" * 200_000)), "no JSON object"),
        (stream(b"data: " + b"x" * (MAX_EVENT_BYTES + 10), HANG), "more than 1,000,000 bytes"),
        (stream(*[b"data: " + b"x" * 100_000 for _ in range(11)], HANG), "more than 1,000,000 bytes"),
        (as_json({"choices": [{"message": {"content": "whole"}}]}), "'application/json' in place of a stream"),
        (Answer([b"<html>Welcome</html>"], kind="text/html"), "'text/html' in place of a stream"),
        (Answer([b"\x1f\x8b"], kind="text/event-stream", headers={"Content-Encoding": "gzip"}), "in place of a stream"),
        (Answer(status=302, headers={"Location": "http://elsewhere/"}), "sends elsewhere"),
        (Answer([b"x" * 16_100_000], status=400), "more than 16,000,000 bytes"),
    ],
)
def test_what_is_no_such_answer_is_told(stub: ApiStub, model: RemoteModel, answer: Answer, words: str) -> None:
    stub.answers_chats(answer)
    _arrived, error = failure(model)
    assert isinstance(error, ServerIncompatible)
    assert words in str(error)


def test_an_answer_without_end_is_given_up(stub: ApiStub, model: RemoteModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_MAX_ANSWER_BYTES", 100_000)
    stub.answers_chats(stream(*(chunk(content="x" * 1000) for _ in range(500)), chunk("stop"), DONE))
    _arrived, error = failure(model)
    assert isinstance(error, ServerIncompatible)


def test_a_server_faster_than_its_reader_has_to_wait(stub: ApiStub, model: RemoteModel) -> None:
    sent = threading.Event()

    def parts() -> Iterator[bytes]:
        piece = chunk(content="x" * 10_000)
        for _ in range(100):
            yield piece * 50  # far more than the buffers of two sockets hold
        sent.set()
        yield chunk("stop") + DONE

    stub.answers_chats(Answer(parts(), kind="text/event-stream", is_chunked=True))
    events = model.stream(QUESTION)
    while not isinstance(next(events), TextDelta):
        pass
    assert not sent.wait(0.5)
    assert sum(len(each.text) for each in events if isinstance(each, TextDelta)) == 49_990_000


def test_no_word_of_a_prompt_or_key_is_logged(
    stub: ApiStub, model: RemoteModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for answer in (
        chat("fine"),
        refusal(422, "Unexpected fields: {'top_k'}; got 'My diary: nobody may read this.'"),
        refusal(400, "no a-secret-key"),
        stream(chunk(content="x"), CUT),
    ):
        stub.answers_chats(answer)
        with contextlib.suppress(ModelLoaderError):
            read(model)
    assert "top_k" in caplog.text
    assert "diary" not in caplog.text
    assert "a-secret-key" not in caplog.text
