"""A hub on this machine: as much of the HTTP answers of Hugging Face and ModelScope as fetching a checkpoint needs.

Both answer on one port: ModelScope's paths begin with /api/v1/.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISION = "v1.0.0"


class HubStub:
    """Serves folders as repositories.

    Attributes:
        url: where it listens.
        gated: repositories that ask for a licence to be accepted.
        cuts: how often the connection still breaks in the middle of a file, by its name.
        too_short: files that arrive shorter than they were announced.
        altered: files that arrive with another last byte.
        is_broken: whether every answer is 503.
        requested: files that were fetched, in order.
        ranges: the `Range` headers that came with them.
    """

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.repositories = repositories
        self.gated: set[str] = set()
        self.cuts: dict[str, int] = {}
        self.too_short: set[str] = set()
        self.altered: set[str] = set()
        self.is_broken = False
        self.requested: list[str] = []
        self.ranges: list[str] = []
        self.num_connections = 0
        self.url = ""

    def answer(self, url: str) -> tuple[int, dict[str, str], bytes, str]:
        """Status, headers, body and the name of the file, if it is one, for a GET of this path."""
        path = urlsplit(url).path
        if self.is_broken:
            return 503, {}, b"", ""
        if path.startswith("/api/v1/"):
            return self._answer_modelscope(path, parse_qs(urlsplit(url).query))
        if path.startswith("/api/models/"):
            return self._answer_api(path)
        owner, repository, _resolve, _revision, file = path.lstrip("/").split("/")
        name = f"{owner}/{repository}"
        if name in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}", ""
        content = (self.repositories[name] / file).read_bytes()
        headers = {"ETag": f'"{_blob_id(content)}"', "X-Repo-Commit": COMMIT}
        if file.endswith(".safetensors"):
            headers |= {"X-Linked-Etag": f'"{_sha256(content)}"', "X-Linked-Size": str(len(content))}
        return 200, headers, content, file

    def _answer_api(self, path: str) -> tuple[int, dict[str, str], bytes, str]:
        parts = path.split("/")
        name, revision = "/".join(parts[3:5]), parts[6] if len(parts) > 6 else "main"
        if name not in self.repositories:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}", ""
        if revision not in ("main", REVISION, COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}", ""
        info: object = {"id": name, "sha": COMMIT, "siblings": []}
        if "/tree/" in path:
            info = [_tree_entry(file) for file in sorted(self.repositories[name].iterdir())]
        return 200, {"Content-Type": "application/json"}, json.dumps(info).encode(), ""

    def _answer_modelscope(self, path: str, query: dict[str, list[str]]) -> tuple[int, dict[str, str], bytes, str]:
        parts = path.split("/")
        name = "/".join(parts[4:6])
        revision = query.get("Revision", ["master"])[0]
        if parts[3] != "models":
            return 200, {"Content-Type": "application/json"}, b'{"Code": 200, "Data": {}}', ""
        if name not in self.repositories or revision not in ("master", REVISION):
            return 404, {"Content-Type": "application/json"}, b'{"Code": 10010205001, "Message": "not found"}', ""
        if name in self.gated:
            return 403, {"Content-Type": "application/json"}, b'{"Code": 403, "Message": "no permission"}', ""
        if path.endswith("/repo"):
            file = query["FilePath"][0]
            return 200, {}, (self.repositories[name] / file).read_bytes(), file
        files = [
            {"Path": file.name, "Size": file.stat().st_size, "Sha256": _sha256(file.read_bytes()), "Type": "blob"}
            for file in sorted(self.repositories[name].iterdir())
        ]
        return (
            200,
            {"Content-Type": "application/json"},
            json.dumps({"Code": 200, "Data": {"Files": files}}).encode(),
            "",
        )


def _tree_entry(file: Path) -> dict[str, object]:
    content = file.read_bytes()
    entry: dict[str, object] = {"type": "file", "path": file.name, "size": len(content), "oid": _blob_id(content)}
    if file.suffix == ".safetensors":
        entry["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 130}
    return entry


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def serve_hub(stub: HubStub) -> Iterator[HubStub]:
    """Runs the stub on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stub.num_connections += 1
            status, headers, body, file = stub.answer(self.path)
            is_body = self.command == "GET"
            announced, start = len(body), 0
            wanted = self.headers.get("Range", "")
            if file and is_body:
                stub.requested.append(file)
                if wanted:
                    stub.ranges.append(wanted)
            if file and wanted.startswith("bytes=") and is_body:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                start, end = int(first), int(last) + 1 if last else len(body)
                headers = {**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(body)}"}
                status, body, announced = 206, body[start:end], end - start
            if file in stub.altered:
                body = body[:-1] + bytes([body[-1] ^ 1])
            if file in stub.too_short:
                body = body[:-1]
                announced -= 1
            if stub.cuts.get(file, 0) > 0 and is_body:
                stub.cuts[file] -= 1
                body = body[: len(body) // 2]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(announced)}.items():
                self.send_header(name, value)
            self.end_headers()
            if is_body:
                self.wfile.write(body)
            if len(body) < announced:
                self.close_connection = True

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
