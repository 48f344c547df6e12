"""A conversation or a text, and what is asked of the answer, as the JSON body of a request to OpenAI's API.

What changes nothing is left out, so that a plain question looks like OpenAI's own. What OpenAI's API does not know but
vLLM, SGLang, llama.cpp and this program do are the `EXTRA_FIELDS`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from model_loader.chat_format.chatml import Opening
from model_loader.chat_format.messages import Message, ToolUse, check_conversation
from model_loader.chat_model import Controls
from model_loader.engine.request import Sampling
from model_loader.errors import GenerationFailed, InvalidSetting

EXTRA_FIELDS = frozenset(
    ("top_k", "min_p", "repetition_penalty", "chat_template_kwargs", "add_generation_prompt", "stream_options")
)
"""Fields that a server may do without; an answer is still one when they are left out. The last is OpenAI's own, but
older servers do not know it."""
CONTINUES = "continue_final_message"
"""The field without which an answer that has begun would begin again."""

_NEUTRAL = Sampling()


def chat_body(
    model: str,
    messages: Sequence[Message],
    sampling: Sampling,
    stop: Sequence[str],
    opening: Opening,
    tools: ToolUse,
    controls: Controls,
) -> dict[str, Any]:
    """The body for `/chat/completions`.

    Raises:
        InvalidSetting: no prompt can be made of the messages, or something is asked that this API has no word for.
        GenerationFailed: the answer is to go on inside of its reasoning, which this API has no word for either.
    """
    check_conversation(messages)
    body = {"model": model, "messages": _messages(messages), **_common(sampling, stop, controls)}
    if controls.has_prompt_scores:
        raise InvalidSetting("The scores of a chat's prompt cannot be had from a server elsewhere; ask it itself.")
    if opening.text:
        body["messages"].append({"role": "assistant", "content": _whole(opening.text)})
        body |= {CONTINUES: True, "add_generation_prompt": False}
    elif opening.reasoning:
        raise GenerationFailed(
            "A server elsewhere cannot go on where the model was still thinking. Answer again from the beginning."
        )
    if opening.thinking is not None:
        body["chat_template_kwargs"] = {"enable_thinking": opening.thinking}
    if controls.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": controls.top_logprobs}
    return body | _tools(tools)


def text_body(
    model: str, text: str | Sequence[int], sampling: Sampling, stop: Sequence[str], controls: Controls
) -> dict[str, Any]:
    """The body for `/completions`.

    Raises:
        InvalidSetting: the text is empty, or something is asked that this API has no word for.
    """
    if not text:
        raise InvalidSetting("The prompt is empty; give at least one token.")
    if controls.has_prompt_scores:
        raise InvalidSetting("The scores of a prompt cannot be had from a server elsewhere; ask it itself.")
    prompt = _whole(text) if isinstance(text, str) else list(text)
    body = {"model": model, "prompt": prompt, **_common(sampling, stop, controls)}
    if controls.top_logprobs is not None:
        body["logprobs"] = controls.top_logprobs
    return body


def _common(sampling: Sampling, stop: Sequence[str], controls: Controls) -> dict[str, Any]:
    if not all(stop):
        raise InvalidSetting("A stop string is empty; leave it out or give its text.")
    body: dict[str, Any] = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,  # these two a server would fill in differently
        "top_p": sampling.top_p,
    }
    for name in ("top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "seed"):
        if getattr(sampling, name) != getattr(_NEUTRAL, name):
            body[name] = getattr(sampling, name)
    if stop:
        body["stop"] = list(stop)
    if controls.logit_bias:
        body["logit_bias"] = {str(token_id): bias for token_id, bias in controls.logit_bias.items()}
    if controls.json_schema is not None:
        body["response_format"] = _response_format(controls.json_schema)
    return body


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    if not schema:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema), "strict": True}}


def _tools(tools: ToolUse) -> dict[str, Any]:
    if not tools.offered:
        return {}
    functions = [
        {
            "name": tool.name,
            "description": _whole(tool.description),
            "parameters": dict(tool.parameters or {"type": "object", "properties": {}}),
        }
        for tool in tools.offered
    ]
    body: dict[str, Any] = {"tools": [{"type": "function", "function": function} for function in functions]}
    if tools.choice == "required":
        body["tool_choice"] = "required"
    elif tools.choice != "auto":
        body["tool_choice"] = {"type": "function", "function": {"name": tools.choice}}
    if not tools.is_parallel:
        body["parallel_tool_calls"] = False
    return body


def _messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages in OpenAI's form; calls get ids by their place, and results refer to them in order."""
    said = []
    unanswered: list[str] = []
    num_calls = 0
    for message in messages:
        one: dict[str, Any] = {"role": message.role, "content": _whole(message.content)}
        if message.reasoning:
            one["reasoning_content"] = _whole(message.reasoning)
        if message.tool_calls:
            unanswered = [f"call{num_calls + at:05d}" for at in range(len(message.tool_calls))]
            num_calls += len(unanswered)
            one["tool_calls"] = [
                {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call_id, call in zip(unanswered, message.tool_calls, strict=True)
            ]
        elif message.role == "tool":
            one["tool_call_id"] = unanswered.pop(0) if unanswered else "call"
        said.append(one)
    return said


def prompt_texts(body: Mapping[str, Any]) -> list[str]:
    """Everything in a body that the model would read, as texts without any form."""
    if "prompt" in body:
        return [body["prompt"]] if isinstance(body["prompt"], str) else []
    calls = [call["function"] for message in body["messages"] for call in message.get("tool_calls", ())]
    texts = [message["content"] for message in body["messages"]] + [call["arguments"] for call in calls]
    texts += [message.get("reasoning_content", "") for message in body["messages"]]
    if "tools" in body:
        texts.append(json.dumps(body["tools"], ensure_ascii=False))
    return [text for text in texts if text]


def _whole(text: str) -> str:
    """The text without half surrogate pairs, which UTF-8 has no bytes for."""
    return text.encode("utf-8", "replace").decode("utf-8")
