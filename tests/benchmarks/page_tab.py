"""One tab of a browser without the browser: it opens the page, asks, follows its answer, stops and leaves.

It speaks HTTP as `static/page.js` and Gradio's client do, heartbeat included, so that the server sees tabs come and go.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from ui.chat.message import new_id

PANEL_NOT_FILLED = ("", "", None, "", "", True, "", True, *[1] * 8)
"""The side panel before it is filled: the conversation keeps its settings."""
_TIMEOUT = httpx.Timeout(120, connect=30)
_MANY = httpx.Limits(max_connections=None, keepalive_expiry=1.0)  # the server closes idle ones after five seconds


class ServerFault(Exception):
    """The server answered with a 5xx status, or Gradio with an error."""


@dataclass(frozen=True)
class Update:
    """What an answer looked like, and when."""

    at_s: float
    text: str


def open_client(url: str) -> httpx.AsyncClient:
    """A client for any number of tabs."""
    return httpx.AsyncClient(base_url=url, timeout=_TIMEOUT, limits=_MANY)


class Tab:
    """One tab of one owner.

    Args:
        numbers: the numbers of the page's events by their handlers' qualified names.
    """

    def __init__(self, client: httpx.AsyncClient, numbers: Mapping[str, int], owner: str | None = None) -> None:
        self.owner = owner or new_id()
        self.session = new_id()[:11]
        self.conversation_id = ""
        self._client = client
        self._numbers = numbers
        self._heartbeat: asyncio.Task[None] | None = None

    async def open(self, conversation_id: str = "") -> None:
        """Begins the heartbeat and finds its conversation, or a new one."""
        self._heartbeat = asyncio.create_task(self._beat())
        data = await self.call("Handlers.attach", [self.owner, conversation_id])
        self.conversation_id = data[1].split()[0]  # behind it the tab's name, where the heartbeat came later

    async def close(self) -> None:
        """Hangs up, as a browser does whose tab is closed."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._heartbeat

    async def call(self, name: str, data: Sequence[Any]) -> list[Any]:
        """What a light handler returns."""
        body = {"data": list(data), "fn_index": self._numbers[name], "session_hash": self.session}
        response = await self._client.post("/gradio_api/run/predict", json=body)
        if response.status_code != 200:
            raise ServerFault(f"{name}: {response.status_code} {response.text[:200]}")
        found: list[Any] = response.json()["data"]
        return found

    async def ask(self, text: str) -> str:
        """Sends a question; returns the notice, empty if it was taken."""
        data = await self.call("Handlers.ask", [text, "", "", None, *PANEL_NOT_FILLED])
        return str(data[1])

    async def stop(self) -> None:
        """Presses the stop button."""
        await self.call("Handlers.stop", [None])

    async def join(self) -> None:
        """Asks to follow the conversation, without listening."""
        body = {"data": [None], "fn_index": self._numbers["Handlers.follow"], "session_hash": self.session}
        response = await self._client.post("/gradio_api/queue/join", json=body)
        if response.status_code != 200:
            raise ServerFault(f"queue/join: {response.status_code}")

    async def follow(self) -> AsyncIterator[Update]:
        """The last message on screen at every update, until nothing is written any more."""
        await self.join()
        shown: Any = None
        listening = self._client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session})
        async with listening as response:
            if response.status_code != 200:
                raise ServerFault(f"queue/data: {response.status_code}")
            async for line in response.aiter_lines():
                said = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if said.get("msg") not in ("process_generating", "process_completed"):
                    continue
                if not said.get("success", True):
                    raise ServerFault(f"follow: {said.get('output')}")
                shown = _changed(shown, said["output"].get("data") or [])
                if shown:
                    yield Update(time.perf_counter(), _last_text(shown))
                if said["msg"] == "process_completed":
                    return

    async def answer(self, text: str) -> list[Update]:
        """Asks and follows to the end; raises ServerFault if the question is not taken."""
        notice = await self.ask(text)
        if notice:
            raise ServerFault(f"refused: {notice}")
        return [update async for update in self.follow()]

    async def _beat(self) -> None:
        beating = self._client.stream("GET", f"/gradio_api/heartbeat/{self.session}", timeout=None)
        with contextlib.suppress(httpx.HTTPError):  # the server may end first
            async with beating as response:
                async for _line in response.aiter_lines():
                    pass


def _changed(shown: Any, output: list[Any]) -> Any:
    """The Chatbot's messages after an update: the first one is whole, the others are lists of edits."""
    if not output:
        return shown
    (value,) = output
    if shown is None or not _are_edits(value):
        return value
    for action, path, what in value:
        shown = _edited(shown, path, action, what)
    return shown


def _are_edits(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, list) and len(each) == 3 for each in value)


def _edited(whole: Any, path: list[Any], action: str, what: Any) -> Any:
    if not path:
        return whole + what if action == "append" else what
    at = whole
    for step in path[:-1]:
        at = at[step]
    last = path[-1]
    if action == "append":
        at[last] += what
    elif action == "delete":
        del at[last]
    elif action == "add" and isinstance(at, list):
        at.insert(int(last), what)
    else:
        at[last] = what
    return whole


def _last_text(shown: list[Any]) -> str:
    """The text of the last message, without the line below it."""
    content = shown[-1]["content"]
    texts = [block["text"] for block in content]
    return "".join(texts[:-1])
