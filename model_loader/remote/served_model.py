"""Which model a server has for us, and what it says about it: its list and its window.

What comes in is an open connection and a name; what goes out is a value. Every server tells a part of it, each in
fields of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import sleep
from typing import Any

from model_loader.checkpoint.resolve import BUILTIN_NAME
from model_loader.errors import CheckpointNotFound, InvalidSetting, ModelLoaderError, ServerIncompatible
from model_loader.remote.connection import Connection, Pauses
from model_loader.remote.failures import BUSY, Asked, explain, read_refusal
from model_loader.remote.options import RemoteOptions

DEFAULT_CONTEXT_LENGTH = 8192
"""Where nobody tells the window: long enough for a conversation, short enough for most servers."""
_WINDOW_FIELDS = ("max_model_len", "context_length", "context_window", "max_context_length")
"""vLLM's and SGLang's; then those of other servers and gateways."""
_PROGRAMS = {"vllm": "vLLM", "sglang": "SGLang", "llamacpp": "llama.cpp"}
_ASK_S = 10.0
_TRY_S = 300.0
"""A server that loads a model when it is first asked for takes minutes."""
_MAX_STARTING_TRIES, _STARTING_S = 200, 600.0
"""A server that is still loading its model says 503 for minutes."""
_MAX_NAME = 300
_MAX_NAMED = 12


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model of a server.

    Attributes:
        name: by which the server knows it.
        program: what the server is, "" where it does not say.
        context_length: the window in tokens.
        window_reason: where the window is from, in a few words; "" when the server has told it.
    """

    name: str
    program: str
    context_length: int
    window_reason: str = ""


def find_served_model(connection: Connection, options: RemoteOptions, wanted: str) -> ServedModel:
    """Asks a server what it has. Takes a moment, or minutes where the model has to be loaded first.

    Args:
        connection: to the server.
        options: what the user says about it.
        wanted: the name of a model; `BUILTIN_NAME` stands for the only one.

    Raises:
        CheckpointNotFound: it has no such model, or several and none was chosen.
        InvalidSetting: the window is to be longer than the server's.
        ServerUnreachable, ServerRefusesKey, ServerBusy, ServerIncompatible, GenerationFailed: as their names say.
    """
    cards = _list_models(connection, options, wanted)
    name = _choose(connection, options, list(cards), wanted)
    card = cards.get(name, {})
    program = _PROGRAMS.get(str(card.get("owned_by")), "")
    told = _told_window(connection, options, card)
    window, reason = told or DEFAULT_CONTEXT_LENGTH, "" if told else "assumed, --context-length tells another"
    if options.context_length is not None:
        if told and options.context_length > told:
            raise InvalidSetting(
                f"--context-length is {options.context_length:,}, but the server at {options.where} reads {told:,} "
                "tokens. Give less, or leave it out."
            )
        window, reason = options.context_length, "--context-length"
    return ServedModel(name, program, window, reason)


def _list_models(connection: Connection, options: RemoteOptions, wanted: str) -> dict[str, Mapping[str, Any]]:
    """The cards of the models by their names; none where a named model makes the list dispensable."""
    pauses = Pauses(_MAX_STARTING_TRIES, _STARTING_S)
    while True:
        reply = connection.ask("GET", f"{options.api}/models", timeout_s=_ASK_S)
        refusal = read_refusal(reply.status, reply.headers, reply.body)
        pause_s = pauses.following(refusal.retry_after_s) if reply.status in BUSY else None
        if pause_s is None:
            break
        sleep(pause_s)
    if reply.status != 200:
        if wanted != BUILTIN_NAME and reply.status in (404, 405, 500):
            return {}
        if reply.status == 500:
            raise CheckpointNotFound(
                f"The server at {options.where} fails to list its models (500). Give the name of one with -c."
            )
        raise explain(refusal, Asked(options.where))
    cards = reply.read_object().get("data")
    if not isinstance(cards, list):
        raise ServerIncompatible(
            f"{options.api}/models holds no list of models. --base-url takes the address of an OpenAI-compatible API."
        )
    named = [(card.get("id"), card) for card in cards if isinstance(card, dict)]
    return {name: card for name, card in named if isinstance(name, str) and _is_name(name)}


def _is_name(name: str) -> bool:
    """Whether it may be shown in a terminal and on a page."""
    return 0 < len(name) <= _MAX_NAME and name.isprintable()


def _choose(connection: Connection, options: RemoteOptions, names: Sequence[str], wanted: str) -> str:
    if wanted in names:
        return wanted
    if wanted == BUILTIN_NAME:
        if len(names) == 1:
            return names[0]
        if not names:
            raise CheckpointNotFound(
                f"The server at {options.where} lists no model. Load one there, or give its name with -c."
            )
        raise CheckpointNotFound(
            f"The server at {options.where} has {len(names)} models. Choose one with -c: {_listed(names)}."
        )
    if f"{wanted}:latest" in names:  # Ollama's names have tags
        return f"{wanted}:latest"
    problem = _try(connection, options, wanted)  # transformers' server answers to names that it does not list
    if problem is not None:
        has = f"It has {_listed(names)}." if names else "It lists none."
        raise CheckpointNotFound(f"The server at {options.where} has no model {wanted[:100]!r}. {has}") from problem
    return wanted


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + rest


def _try(connection: Connection, options: RemoteOptions, name: str) -> ModelLoaderError | None:
    """Asks a model that is not listed for one token; returns why there is none."""
    body = {"model": name, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    reply = connection.ask("POST", f"{options.api}/chat/completions", body, timeout_s=_TRY_S)
    if reply.status == 200:
        return None
    error = explain(read_refusal(reply.status, reply.headers, reply.body), Asked(options.where, name))
    if isinstance(error, CheckpointNotFound | InvalidSetting | ServerIncompatible):
        return error
    raise error


def _told_window(connection: Connection, options: RemoteOptions, card: Mapping[str, Any]) -> int:
    """The window as the server tells it; 0 where it does not."""
    told = next((size for name in _WINDOW_FIELDS if (size := _size(card.get(name)))), 0)
    meta = card.get("meta")
    if told or not isinstance(meta, dict):
        return told
    reply = connection.ask("GET", f"{options.root}/props", timeout_s=_ASK_S)  # llama.cpp: less than it was trained for
    settings = reply.read_object().get("default_generation_settings") if reply.status == 200 else None
    set_window = _size(settings.get("n_ctx")) if isinstance(settings, dict) else 0
    return set_window or _size(meta.get("n_ctx")) or _size(meta.get("n_ctx_train"))


def _size(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
