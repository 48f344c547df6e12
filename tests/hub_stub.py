"""A hub on this machine: as much of the Hugging Face hub's HTTP answers as fetching a checkpoint needs."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubStub:
    """Serves folders as repositories; `requested` lists the files that were fetched.

    Attributes:
        url: where it listens.
        gated: repositories that ask for a licence to be accepted.
    """

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.repositories = repositories
        self.gated: set[str] = set()
        self.requested: list[str] = []
        self.url = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a GET of this path."""
        path = path.split("?")[0]
        if path.startswith("/api/models/"):
            name = "/".join(path.split("/")[3:5])
            if name not in self.repositories:
                return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
            info: object = {"id": name, "sha": COMMIT, "siblings": []}
            if "/tree/" in path:
                info = [
                    {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _digest(file.read_bytes())}
                    for file in sorted(self.repositories[name].iterdir())
                ]
            return 200, {"Content-Type": "application/json"}, json.dumps(info).encode()
        owner, repository, _resolve, _commit, file = path.lstrip("/").split("/")
        name = f"{owner}/{repository}"
        if name in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
        content = (self.repositories[name] / file).read_bytes()
        return 200, {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": COMMIT}, content


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def serve_hub(stub: HubStub) -> Iterator[HubStub]:
    """Runs the stub on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = stub.answer(self.path)
            if self.command == "GET" and "/resolve/" in self.path:
                stub.requested.append(self.path.rsplit("/", 1)[1])
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
