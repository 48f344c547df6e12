"""What a server's refusal means for the user: status, headers and body to one class for each remedy.

No message quotes a prompt or a key. What a server says of a refusal is quoted only where none of either is in it,
because servers like to repeat what they were sent.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from model_loader.errors import (
    CheckpointNotFound,
    ContextLengthExceeded,
    GenerationFailed,
    InvalidSetting,
    ModelLoaderError,
    ServerBusy,
    ServerIncompatible,
    ServerRefusesKey,
)

BUSY = (429, 503)
_MAX_QUOTE = 200
_MAX_MESSAGE = 2000
_LEAK_CHARS = 16
"""So many characters of a prompt in a row are no coincidence."""
_IS_UNKNOWN = re.compile("unknown|unexpected|unrecogni[sz]ed|extra|not permitted|unsupported", re.IGNORECASE)
_IDENTIFIER = re.compile(r"[\w.\[\]-]{1,60}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer that is not the one that was asked for, as far as it can be read.

    Attributes:
        status: of HTTP; inside a stream the one that the server names, or 500.
        message: what the server says about it.
        code, param: its identifiers for the reason and for the field at fault; "" where it names none.
        facts: the other figures of llama.cpp's error bodies.
        retry_after_s: when to try again; None where the server does not say.
    """

    status: int
    message: str = ""
    code: str = ""
    param: str = ""
    facts: Mapping[str, int] = field(default_factory=dict)
    retry_after_s: float | None = None

    @property
    def is_context_length(self) -> bool:
        """Whether the prompt was too long."""
        if self.status not in (400, 413, 422, 500):
            return False
        said = f"{self.code} {self.message}".lower()
        return bool(re.search(r"context[_ ](length|size|window)|maximum model length|conversation takes", said))

    def unknown_fields(self, fields: Iterable[str]) -> frozenset[str]:
        """Those of the fields that are refused because the server does not know them, not because of their values."""
        said = f"{self.code} {self.param} {self.message}"
        if self.status not in (400, 422) or not _IS_UNKNOWN.search(said):
            return frozenset()
        return frozenset(each for each in fields if re.search(rf"\b{re.escape(each)}\b", said))


class Refused(Exception):
    """Carries a `Refusal` to where it can be explained."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"status {refusal.status}")
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, as far as explaining a refusal needs it.

    Attributes:
        where: the server.
        model: the model's name; "" when no model was asked for.
        max_new_tokens: room for the answer.
        context_length: the window as it is known.
        secrets: the prompt's texts and the key, which no message may repeat.
    """

    where: str
    model: str = ""
    max_new_tokens: int = 0
    context_length: int = 0
    secrets: Sequence[str] = field(default=(), repr=False)


def read_refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """What an HTTP answer says of itself; anything may be missing."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    pause_s = _pause_s(headers.get("retry-after", ""))
    return read_error(value, status, pause_s)


def read_error(value: Any, status: int, retry_after_s: float | None = None) -> Refusal:
    """The refusal in a decoded error body: OpenAI's, FastAPI's, or a bare sentence."""
    if isinstance(value, dict):
        value = value.get("error", value.get("detail", value))
    if isinstance(value, list) and value:  # FastAPI's validation errors
        value = value[0]
    if isinstance(value, str):
        return Refusal(status, value[:_MAX_MESSAGE], retry_after_s=retry_after_s)
    if not isinstance(value, dict):
        return Refusal(status, retry_after_s=retry_after_s)
    message = value.get("message", value.get("msg", ""))
    place = value.get("loc")
    param = value.get("param") or (place[-1] if isinstance(place, list) and place else "")
    code = next((each for each in (value.get("code"), value.get("type")) if isinstance(each, str)), "")
    return Refusal(
        status,
        message[:_MAX_MESSAGE] if isinstance(message, str) else "",
        f"{code} {value['type']}" if isinstance(value.get("type"), str) and value["type"] != code else code,
        param if isinstance(param, str) else "",
        {name: each for name, each in value.items() if isinstance(each, int) and name.startswith("n_")},
        retry_after_s,
    )


def explain(refusal: Refusal, asked: Asked) -> ModelLoaderError:
    """The error for the user."""
    where, status = asked.where, refusal.status
    if refusal.is_context_length:
        return _too_long(refusal, asked)
    said = _quote(refusal, asked)
    if status in (401, 403):
        return ServerRefusesKey(
            f"The server at {where} refuses the key ({status}). Give the right one with --base-url-key or "
            "QWEN_DEMO_BASE_URL_KEY."
        )
    if status == 404 and asked.model and "model" in f"{refusal.code} {refusal.message}".lower():
        return CheckpointNotFound(f"The server at {where} has no model {asked.model!r}. Give another name with -c.")
    if status in (404, 405) or 300 <= status < 400:
        what = "sends elsewhere" if status < 400 else "has nothing there"
        return ServerIncompatible(
            f"The server at {where} {what} ({status}). --base-url takes the address of an OpenAI-compatible API, which "
            f"usually ends in /v1.{said}"
        )
    if status in BUSY:
        pause = f"in {refusal.retry_after_s:.0f} s" if refusal.retry_after_s is not None else "in a while"
        what = "has no room" if status == 429 else "is not ready or has no room"
        return ServerBusy(f"The server at {where} {what} now ({status}). Ask again {pause}.{said}")
    if 400 <= status < 500:
        return InvalidSetting(
            f"The server at {where} refuses the request ({status}{_identifiers(refusal)}). Change that setting.{said}"
        )
    return GenerationFailed(
        f"The server at {where} failed ({status}{_identifiers(refusal)}). Ask again; its own log says more.{said}"
    )


def _too_long(refusal: Refusal, asked: Asked) -> ContextLengthExceeded:
    said = refusal.message
    prompt = refusal.facts.get("n_prompt_tokens") or _first_number(said, _PROMPT_NUMBERS)
    window = refusal.facts.get("n_ctx") or _first_number(said, _WINDOW_NUMBERS)
    return ContextLengthExceeded(prompt, asked.max_new_tokens, window or asked.context_length)


_NUMBER = r"(\d[\d,]*)"
_WINDOW_NUMBERS = (
    rf"context (?:length|size|window)\D{{0,12}}{_NUMBER}",
    rf"maximum model length\D{{0,12}}{_NUMBER}",
    rf"model reads {_NUMBER}",
)
"""In the words of OpenAI, vLLM, SGLang and llama.cpp; of vLLM's engine; of this program."""
_PROMPT_NUMBERS = (
    rf"{_NUMBER} (?:tokens )?(?:from|in) the (?:input|messages|prompt)",
    rf"prompt contains {_NUMBER} (?:input )?tokens",
    rf"has {_NUMBER} input tokens",
    rf"(?:input|request|prompt|length) \((?:length )?{_NUMBER}(?: tokens)?\)",
    rf"conversation takes {_NUMBER}",
)
"""Not vLLM's "at least 1025": it stops counting there, and the prompt may be much longer."""


def _first_number(text: str, patterns: Sequence[str]) -> int:
    for pattern in patterns:
        if found := re.search(pattern, text, re.IGNORECASE):
            return int(found[1].replace(",", "")[:12])
    return 0


def _identifiers(refusal: Refusal) -> str:
    """The field and the code as the server names them; both are words and never a sentence."""
    code = refusal.code.split()[0] if refusal.code else ""
    return "".join(f", {each}" for each in (code, refusal.param) if _IDENTIFIER.fullmatch(each))


def _quote(refusal: Refusal, asked: Asked) -> str:
    """The server's own words as a sentence of ours; "" where they are none, or may repeat what must not be told."""
    words = " ".join(refusal.message.split())
    if not words or not words.isprintable() or "\\" in words or any(_leaks(words, each) for each in asked.secrets):
        return ""
    return f" It says: {words[:_MAX_QUOTE]}{'…' if len(words) > _MAX_QUOTE else ''}"


def _leaks(words: str, secret: str) -> bool:
    secret = " ".join(secret.split())
    if not secret:
        return False
    if len(secret) <= _LEAK_CHARS:
        return secret in words
    return any(words[at : at + _LEAK_CHARS] in secret for at in range(len(words) - _LEAK_CHARS + 1))


def _pause_s(retry_after: str) -> float | None:
    """Of a `Retry-After` header: seconds or a date (RFC 9110, section 10.2.3)."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time()
        except ValueError:
            return None
    return max(0.0, seconds) if seconds < 1e6 else None
