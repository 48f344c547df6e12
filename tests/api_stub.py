"""A server on this machine that behaves as OpenAI-compatible servers do, and as they should not.

It speaks HTTP/1.1 by hand, so that a test decides about every byte, and notes when its client leaves.
"""

import contextlib
import json
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

HANG = "hang"
"""In an answer: say nothing until the client leaves or the test releases it."""
CUT = "cut"
"""In an answer: end the connection here."""

Part = bytes | float | str
"""Bytes to send, seconds to wait, or `HANG` or `CUT`."""


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Answer:
    """What is sent back. A chunked body ends properly unless it is cut."""

    parts: Iterable[Part] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "application/json"
    is_chunked: bool = False


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    """A whole answer in JSON."""
    return Answer(
        [json.dumps(value).encode()], status, {name.replace("_", "-"): each for name, each in headers.items()}
    )


def refusal(status: int, message: str, **more: Any) -> Answer:
    """An error in OpenAI's form."""
    headers = {"Retry-After": more.pop("retry_after")} if "retry_after" in more else {}
    return Answer([json.dumps({"error": {"message": message, **more}}).encode()], status, headers)


def event(value: Any) -> bytes:
    """One server-sent event."""
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()


def chunk(finish: str | None = None, **delta: Any) -> bytes:
    """One event of a chat's answer."""
    return event({"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None})


def usage(prompt: int, completion: int, cached: int | None = None) -> bytes:
    """The event that says what an answer cost."""
    counted: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    if cached is not None:
        counted["prompt_tokens_details"] = {"cached_tokens": cached}
    return event({"id": "1", "choices": [], "usage": counted})


DONE = event("[DONE]")


def stream(*parts: Part, **headers: str) -> Answer:
    """An answer as a stream of events."""
    return Answer(parts, headers=headers, kind="text/event-stream; charset=utf-8", is_chunked=True)


def chat(*pieces: str, finish: str = "stop", tokens: tuple[int, int] | None = (20, 3)) -> Answer:
    """A whole answer of a well-behaved server."""
    counted = [usage(*tokens)] if tokens is not None else []
    return stream(
        chunk(role="assistant", content=""), *(chunk(content=each) for each in pieces), chunk(finish), *counted, DONE
    )


def card(name: str, **more: Any) -> dict[str, Any]:
    """A model in the list."""
    return {"id": name, "object": "model", "owned_by": "someone", **more}


class ApiStub:
    """Answers as it is told.

    Attributes:
        routes: what each path answers: an `Answer`, or a function of the request.
        asked: the requests so far.
        num_open: connections that are open now.
        has_left: set when a client leaves in the middle of an answer.
        released: set it to let a hanging answer go on.
    """

    def __init__(self, *cards: dict[str, Any]) -> None:
        models = {"object": "list", "data": list(cards or [card("qwen", max_model_len=4096)])}
        self.routes: dict[str, Answer | Callable[[Asked], Answer]] = {"/v1/models": as_json(models)}
        self.asked: list[Asked] = []
        self.num_open = 0
        self.num_connections = 0
        self.has_left = threading.Event()
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.connections: set[socket.socket] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def answers_chats(self, *answers: Answer | Callable[[Asked], Answer]) -> None:
        """One answer after the other, the last again and again."""
        left = list(answers)

        def following(asked: Asked) -> Answer:
            following_one = left.pop(0) if len(left) > 1 else left[0]
            return following_one if isinstance(following_one, Answer) else following_one(asked)

        self.routes["/v1/chat/completions"] = following

    def bodies(self, path: str = "/v1/chat/completions") -> list[Any]:
        """What was sent to a path."""
        return [each.body for each in self.asked if each.path == path]

    def answer(self, asked: Asked) -> Answer:
        """What this request gets."""
        known = self.routes.get(asked.path)
        if known is None:
            return as_json({"detail": "Not Found"}, 404)
        return known if isinstance(known, Answer) else known(asked)


@contextmanager
def serve(stub: ApiStub) -> Iterator[ApiStub]:
    """Runs it on a free port of 127.0.0.1."""

    class Handler(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            with stub.lock:
                stub.num_open += 1
                stub.num_connections += 1
                stub.connections.add(self.connection)
            try:
                with contextlib.suppress(OSError):
                    while asked := self.read():
                        stub.asked.append(asked)
                        if not self.send(stub.answer(asked)):
                            return
            finally:
                with stub.lock:
                    stub.num_open -= 1
                    stub.connections.discard(self.connection)

        def read(self) -> Asked | None:
            if self.rfile.peek(1)[:1] == b"\x16":  # a TLS client's first byte
                self.wfile.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return None
            line = self.rfile.readline().decode("latin-1")
            if not line:
                return None
            method, path, _version = line.split()
            headers = {}
            while (line := self.rfile.readline().decode("latin-1").strip()) != "":
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            content = self.rfile.read(int(headers.get("content-length", "0")))
            return Asked(method, path, headers, json.loads(content) if content else None)

        def send(self, answer: Answer) -> bool:
            """Whether the connection may be used again."""
            head = {"Content-Type": answer.kind, **answer.headers}
            if answer.is_chunked:
                head.setdefault("Transfer-Encoding", "chunked")
            else:
                head.setdefault(
                    "Content-Length", str(sum(len(each) for each in answer.parts if isinstance(each, bytes)))
                )
            lines = [f"HTTP/1.1 {answer.status} So", *(f"{name}: {value}" for name, value in head.items() if value)]
            self.wfile.write("\r\n".join([*lines, "", ""]).encode())
            for part in answer.parts:
                if part == CUT:
                    return False
                if part == HANG:
                    if not self.hang(60.0):
                        return False
                elif isinstance(part, float):
                    if not self.hang(part):
                        return False
                elif isinstance(part, bytes):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if answer.is_chunked else part)
            if answer.is_chunked:
                self.wfile.write(b"0\r\n\r\n")
            return "close" not in head.get("Connection", "")

        def hang(self, seconds: float) -> bool:
            """Waits; False when the client has left."""
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and not stub.released.is_set():
                readable, _, _ = select.select([self.connection], [], [], 0.01)
                if readable and not self.connection.recv(1, socket.MSG_PEEK):
                    stub.has_left.set()
                    return False
            return True

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        stub.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            stub.released.set()
            server.shutdown()
            thread.join()
            with stub.lock:
                for connection in stub.connections:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
