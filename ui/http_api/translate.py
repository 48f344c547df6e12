"""From a checked request to what a `ChatSource` is asked: messages, tools, sampling, opening, controls.

Where the two speak of the same thing in other words, this is the place: max_tokens and max_new_tokens, developer and
system, functions and tools. It opens nothing; a `Question` is opened on a thread of its own.
"""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from model_loader.chat_format.chatml import Opening
from model_loader.chat_format.messages import NO_TOOLS, Message, Tool, ToolUse
from model_loader.chat_model import Controls
from model_loader.chat_source import ChatSource
from model_loader.engine.request import SAMPLING_RANGES, Sampling
from model_loader.errors import ContextLengthExceeded
from model_loader.events import Event, ToolCall
from ui.http_api.chat_schema import ChatMessage, ChatRequest, JsonSchemaFormat
from ui.http_api.errors import ApiError
from ui.http_api.schema import DEFAULT_COMPLETION_TOKENS, AnswerRequest, CompletionRequest

_LEAST_MESSAGE_TOKENS = 4
"""Control tokens, role and newline: what the shortest message takes of the window."""
Question = Callable[[], Generator[Event]]
"""Opens one stream of events."""


def served_name(chat_model: ChatSource) -> str:
    """The model's name for clients: as on a hub; of a folder its last part, for where it lies is nobody's matter."""
    path = Path(chat_model.name)
    return path.resolve().name if path.is_absolute() or path.is_dir() else chat_model.name


def check_model(name: str, chat_model: ChatSource) -> None:
    """
    Raises:
        ApiError: 404, the name is another model's.
    """
    served = served_name(chat_model)
    if name not in (served, chat_model.name):
        raise ApiError(404, f"The model is not served here; {served!r} is.", code="model_not_found", param="model")


def chat_questions(request: ChatRequest, chat_model: ChatSource, owner: str) -> list[Question]:
    """One question for each of the `n` answers.

    Raises:
        ApiError: the messages make no conversation, or the model cannot do what is asked.
    """
    messages, opening = _conversation(request, chat_model)
    if len(messages) * _LEAST_MESSAGE_TOKENS > chat_model.context_length:
        room = request.max_completion_tokens or request.max_tokens or 1
        raise ContextLengthExceeded(len(messages) * _LEAST_MESSAGE_TOKENS, room, chat_model.context_length)
    length = request.max_completion_tokens or request.max_tokens
    settings = _generation_config(request.generation_config)
    sampling = _sampling(request, chat_model.default_sampling, length, settings)
    tools = _tools(request, chat_model)
    controls = Controls(
        logit_bias=_logit_bias(request),
        top_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        json_schema=_json_schema(request),
    )
    is_free = length is None and "max_new_tokens" not in settings

    def ask(one: Sampling) -> Generator[Event]:
        return chat_model.stream(
            messages, one, stop=request.stops, opening=opening, owner=owner, tools=tools, controls=controls
        )

    window = chat_model.context_length if is_free else None
    return [_question(ask, sampling, number, window) for number in range(request.n or 1)]


def completion_questions(request: CompletionRequest, chat_model: ChatSource, owner: str) -> list[Question]:
    """One question for each of the `n` answers to each text, the answers to the first text first."""
    length = DEFAULT_COMPLETION_TOKENS if request.max_tokens is None else request.max_tokens
    sampling = _sampling(request, chat_model.default_sampling, max(1, length), {})
    controls = Controls(
        logit_bias=_logit_bias(request),
        top_logprobs=request.logprobs,
        has_prompt_scores=bool(request.echo) and request.logprobs is not None,
    )

    def ask_for(text: str | Sequence[int]) -> Callable[[Sampling], Generator[Event]]:
        return lambda one: chat_model.complete(text, one, stop=request.stops, owner=owner, controls=controls)

    asks = [ask_for(text) for text in request.prompts]
    return [_question(ask, sampling, number, None) for ask in asks for number in range(request.n or 1)]


def _question(
    ask: Callable[[Sampling], Generator[Event]], sampling: Sampling, number: int, window: int | None
) -> Question:
    """The question for one of several answers; with `window` its answer is as long as that leaves room for."""
    if number and sampling.seed is not None:  # the same seed would give the same answer
        sampling = sampling.changed(seed=(sampling.seed + number) % int(SAMPLING_RANGES["seed"].high))
    return (lambda: ask(sampling)) if window is None else (lambda: _within(window, ask, sampling))


def _within(window: int, ask: Callable[[Sampling], Generator[Event]], sampling: Sampling) -> Generator[Event]:
    """The answer to a client that asked for no length: the usual one, or what the prompt leaves of the window."""
    try:
        yield from ask(sampling)
    except ContextLengthExceeded as error:
        room = window - error.prompt_tokens
        if not 0 < room < sampling.max_new_tokens:
            raise
        yield from ask(sampling.changed(max_new_tokens=room))


def _conversation(request: ChatRequest, chat_model: ChatSource) -> tuple[list[Message], Opening]:
    """The messages, and how the answer begins: with the last message, if that is to be continued."""
    given = list(request.messages)
    switches = request.chat_template_kwargs
    opening = Opening(thinking=None if switches is None else switches.enable_thinking)
    if request.continue_final_message:
        last = given.pop()
        where = f"messages[{len(given)}]"
        if last.role != "assistant" or last.tool_calls or last.function_call:
            raise ApiError(
                400, "continue_final_message needs an answer without calls as the last message.", param=where
            )
        opening = Opening(last.text, last.reasoning_content or "", opening.thinking)
    elif given[-1].role == "assistant":
        raise ApiError(
            400,
            "The last message is the assistant's; end with the user's, or ask with continue_final_message: true.",
            param=f"messages[{len(given) - 1}]",
        )
    messages = _messages(given)
    if chat_model.default_system and (not messages or messages[0].role != "system"):
        messages.insert(0, Message("system", chat_model.default_system))  # as the checkpoint's own template does
    return messages, opening


def _messages(given: Sequence[ChatMessage]) -> list[Message]:
    messages: list[Message] = []
    open_calls: dict[str, int] = {}
    results: dict[int, Message] = {}
    for place, each in enumerate(given):
        where = f"messages[{place}]"
        if each.role in ("tool", "function"):
            results[_result_place(each, open_calls, results, where)] = Message("tool", each.text)
            continue
        messages += _in_order(open_calls, results, where)
        open_calls, results = _calls_of(each), {}
        if each.role in ("system", "developer"):
            if place:
                raise ApiError(400, f"{where} is a system message; only the first message may be one.", param=where)
            messages.append(Message("system", each.text))
        elif each.role == "user":
            messages.append(Message("user", each.text))
        else:
            reasoning = each.reasoning_content or each.reasoning or ""
            messages.append(Message("assistant", each.text, _tool_calls(each), reasoning))
    return messages + _in_order(open_calls, results, f"messages[{len(given)}]")


def _calls_of(message: ChatMessage) -> dict[str, int]:
    """The calls that wait for results, by their ids; an old one by the function's name."""
    if message.function_call is not None:
        return {message.function_call.name: 0}
    return {call.id: place for place, call in enumerate(message.tool_calls or ())}


def _result_place(message: ChatMessage, calls: Mapping[str, int], results: Mapping[int, Any], where: str) -> int:
    """Which of the calls before it a message brings the result of."""
    place = calls.get((message.tool_call_id if message.role == "tool" else message.name) or "")
    if place is None or place in results:
        raise ApiError(400, f"{where} is the result of no open call of the assistant's message before it.", param=where)
    return place


def _in_order(calls: Mapping[str, int], results: Mapping[int, Message], where: str) -> list[Message]:
    """The results in the order of their calls, as prompts have them."""
    if len(results) < len(calls):
        raise ApiError(400, f"A call before {where} has no result; send one message of the tool for each.", param=where)
    return [results[place] for place in sorted(results)]


def _tool_calls(message: ChatMessage) -> tuple[ToolCall, ...]:
    functions = [call.function for call in message.tool_calls or ()]
    functions += [message.function_call] if message.function_call is not None else []
    return tuple(ToolCall(function.name, function.arguments) for function in functions)


def _tools(request: ChatRequest, chat_model: ChatSource) -> ToolUse:
    if not request.offered or request.choice == "none":
        return NO_TOOLS
    if not chat_model.supports_tools:
        raise ApiError(
            400, "The model was not taught to call functions; leave tools out or serve one that was.", param="tools"
        )
    tools = tuple(Tool(each.name, each.description or "", each.parameters) for each in request.offered)
    is_parallel = request.parallel_tool_calls is not False and not request.is_legacy
    return ToolUse(tools, request.choice, is_parallel)


def _json_schema(request: ChatRequest) -> Mapping[str, Any] | None:
    if not request.wants_json:
        return None
    wanted = request.response_format
    return wanted.json_schema.schema_ if isinstance(wanted, JsonSchemaFormat) else {}


def _logit_bias(request: AnswerRequest) -> Mapping[int, float]:
    return {int(token_id): bias for token_id, bias in (request.logit_bias or {}).items()}


def _sampling(request: AnswerRequest, default: Sampling, length: int | None, settings: Mapping[str, Any]) -> Sampling:
    """The checkpoint's defaults, changed by `settings` and then by what the request names itself."""
    named = {name: getattr(request, name) for name in SAMPLING_RANGES if getattr(request, name, None) is not None}
    if length is not None:
        named["max_new_tokens"] = length
    return default.changed(**{**settings, **named})


def _generation_config(text: str | None) -> dict[str, Any]:
    """The settings in a transformers generation config, which `transformers chat` sends as text.

    Raises:
        ApiError: it is no such object, or asks for something that cannot be done here.
    """
    if text is None:
        return {}
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise ApiError(400, "generation_config is no JSON object.", param="generation_config")
    given.pop("transformers_version", None)
    is_greedy = given.pop("do_sample", None) is False
    unknown = sorted(name for name in given if name not in SAMPLING_RANGES)
    if unknown:
        raise ApiError(
            400, f"generation_config has {unknown[0][:60]!r}, which has no meaning here.", param="generation_config"
        )
    settings = {name: value for name, value in given.items() if value is not None}
    return {**settings, "temperature": 0.0} if is_greedy else settings
