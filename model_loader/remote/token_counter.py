"""How many tokens a prompt takes: as the server counts it where it has a way to, otherwise by an estimate.

vLLM counts whole conversations, SGLang and llama.cpp texts; the routes are no part of OpenAI's API. An estimate is
corrected by what the server counted for earlier prompts, and is always marked as one.
"""

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_loader.errors import ModelLoaderError, ServerIncompatible
from model_loader.remote.connection import Connection
from model_loader.remote.options import RemoteOptions
from model_loader.remote.request_body import prompt_texts

_ASK_S = 3.0
_REST_S = 30.0
"""After a failure the server is left alone for so long; counting happens while people type."""
_NUM_KEPT = 64
_MESSAGE_TOKENS = 5
"""Around every message of ChatML: two control tokens, the role and two newlines."""
_ASCII_PER_TOKEN = 3.6
_OTHERS_PER_TOKEN = 1.5
"""Characters of English and code, and of Chinese and Japanese, for a Qwen tokenizer; a rule of thumb."""
_LEARNS_FROM = 32
_COUNTED_FIELDS = (
    "model", "messages", "tools", "chat_template_kwargs", "add_generation_prompt", "continue_final_message", "prompt"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Count:
    """How many tokens a prompt takes, and whether that is an estimate."""

    tokens: int
    is_estimate: bool


def estimate_tokens(texts: Sequence[str]) -> float:
    """What some texts take by their letters alone."""
    num_chars = sum(map(len, texts))
    num_ascii = sum(len(text.encode("ascii", "ignore")) for text in texts)
    return num_ascii / _ASCII_PER_TOKEN + (num_chars - num_ascii) / _OTHERS_PER_TOKEN


class TokenCounter:
    """Counts for one model of one server. Every method may be called from any thread."""

    def __init__(self, connection: Connection, options: RemoteOptions, model: str) -> None:
        self._connection = connection
        self._options = options
        self._model = model
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Count] = OrderedDict()
        self._rests_until = 0.0
        self._correction = 1.0
        self._takes_prompts = bool(self._ids("tokenize", self._as_prompt("Hi")))
        self._takes_contents = not self._takes_prompts and bool(self._ids("tokenize", {"content": "Hi"}))
        self._takes_chats = self._takes_prompts
        self._rests_until = 0.0

    def count(self, body: Mapping[str, Any]) -> Count:
        """What the prompt in a request's body takes; never raises."""
        if isinstance(ids := body.get("prompt"), list):
            return Count(len(ids), False)
        asked = {name: body[name] for name in _COUNTED_FIELDS if name in body}
        key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        counted = self._count(asked)
        if counted is None:
            return Count(round(self._estimate(body) * self._correction), True)
        with self._lock:
            self._known[key] = counted
            while len(self._known) > _NUM_KEPT:
                self._known.popitem(last=False)
        return counted

    def count_text(self, text: str) -> Count:
        """What a bare text takes; never raises."""
        try:
            return Count(len(self.encode(text)), False)
        except ModelLoaderError:
            return Count(round(estimate_tokens([text]) * self._correction), True)

    def learn(self, body: Mapping[str, Any], prompt_tokens: int) -> None:
        """Takes what the server has counted for a prompt as a measure for the next estimates."""
        estimated = self._estimate(body)
        if estimated >= _LEARNS_FROM and prompt_tokens > 0:
            self._correction = min(4.0, max(0.25, prompt_tokens / estimated))

    def encode(self, text: str) -> list[int]:
        """The ids of a text.

        Raises:
            ServerIncompatible: the server has no way to tell them.
        """
        if not text:
            return []
        return self._text_ids(text) or self._lacks("/tokenize")

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids.

        Raises:
            ServerIncompatible: the server has no way to tell it.
        """
        if not ids:
            return ""
        reply = self._ask("detokenize", {"model": self._model, "tokens": list(ids)}) or {}
        text = next((reply[name] for name in ("prompt", "text", "content") if isinstance(reply.get(name), str)), None)
        return self._lacks("/detokenize") if text is None else text

    def _count(self, asked: Mapping[str, Any]) -> Count | None:
        """As the server counts; None where it does not."""
        if self._takes_chats:
            reply = self._ask("tokenize", asked)
            if reply is not None and isinstance(number := reply.get("count"), int):
                return Count(number, False)
            self._takes_chats = time.monotonic() < self._rests_until  # it answers, but takes none
        ids = self._text_ids("\n".join(prompt_texts(asked)))
        return Count(len(ids) + _frame_tokens(asked), True) if ids else None  # what the template adds is not known

    def _estimate(self, body: Mapping[str, Any]) -> float:
        return estimate_tokens(prompt_texts(body)) + _frame_tokens(body)

    def _text_ids(self, text: str) -> list[int]:
        """The ids of a text; empty where the server does not tell them."""
        if not self._takes_prompts and not self._takes_contents:
            return []
        return self._ids("tokenize", self._as_prompt(text) if self._takes_prompts else {"content": text})

    def _as_prompt(self, text: str) -> dict[str, Any]:
        return {"model": self._model, "prompt": text, "add_special_tokens": False}

    def _ids(self, route: str, body: Mapping[str, Any]) -> list[int]:
        reply = self._ask(route, body)
        ids = reply.get("tokens") if reply is not None else None
        return ids if isinstance(ids, list) and all(isinstance(each, int) for each in ids) else []

    def _ask(self, route: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """What a route that OpenAI's API does not have answers; None where there is none."""
        if time.monotonic() < self._rests_until:
            return None
        try:
            reply = self._connection.ask("POST", f"{self._options.root}/{route}", body, timeout_s=_ASK_S)
            answer = reply.read_object() if reply.status == 200 else None
        except ModelLoaderError:
            self._rests_until = time.monotonic() + _REST_S
            return None
        return answer if answer is None or "count" in answer or "tokens" in answer or route == "detokenize" else None

    def _lacks(self, route: str) -> Any:
        raise ServerIncompatible(
            f"The server at {self._options.where} tells no token ids: it has no {route}, or does not answer there now. "
            "Give texts in place of ids, or use vLLM, SGLang or llama.cpp."
        )


def _frame_tokens(body: Mapping[str, Any]) -> int:
    return _MESSAGE_TOKENS * (len(body["messages"]) + 1) if "messages" in body else 0
