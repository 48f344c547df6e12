"""Events to chat completions: the chunks of a stream, or one object at the end.

What is thought comes as `reasoning_content`, which is how servers of reasoning models extend OpenAI's form. A call
comes whole, in one chunk.
"""

import secrets
from collections.abc import Sequence
from typing import Any, Literal

from openai.types import CompletionUsage
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionTokenLogprob,
)
from openai.types.chat.chat_completion import Choice, ChoiceLogprobs
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_chunk import ChoiceDelta
from openai.types.chat.chat_completion_chunk import ChoiceLogprobs as ChunkLogprobs
from openai.types.chat.chat_completion_message import FunctionCall
from openai.types.chat.chat_completion_message_function_tool_call import Function
from openai.types.chat.chat_completion_token_logprob import TopLogprob
from pydantic import BaseModel

from model_loader.events import Event, Finished, FinishReason, ReasoningDelta, Scores, TextDelta, TokenScore, ToolCall
from ui.http_api.answers import Costs, Head, finite

ChatFinishReason = Literal["stop", "length", "tool_calls", "function_call"]


class ChatStream:
    """The chunks of a streamed chat completion.

    Args:
        head: what every chunk repeats.
        num_choices: how many answers it has.
        is_legacy: whether a call comes as `function_call`.
        has_usage: whether a last chunk says what it cost.
    """

    def __init__(self, head: Head, num_choices: int, *, is_legacy: bool, has_usage: bool) -> None:
        self._head = head
        self._costs = Costs(num_choices)
        self._is_legacy = is_legacy
        self._has_usage = has_usage
        self._num_calls = [0] * num_choices
        self._scores: list[list[ChatCompletionTokenLogprob]] = [[] for _ in range(num_choices)]

    def begin(self) -> Sequence[BaseModel]:
        """Who speaks, of every answer."""
        return [self._chunk(number, role="assistant", content="") for number in range(len(self._scores))]

    def feed(self, number: int, event: Event) -> Sequence[BaseModel]:
        """What an event adds; scores wait for the text that their tokens complete."""
        match event:
            case TextDelta(text):
                return [self._chunk(number, content=text)]
            case ReasoningDelta(text):
                return [self._chunk(number, reasoning_content=text)]
            case ToolCall():
                return [self._chunk(number, **self._call(number, event))]
            case Scores(tokens, is_prompt):
                if not is_prompt:
                    self._scores[number] += map(token_logprob, tokens)
            case Finished(reason, usage):
                self._costs.usages[number] = usage
                return [self._chunk(number, finish_reason(reason, is_legacy=self._is_legacy))]
        return []

    def end(self) -> Sequence[BaseModel]:
        """What it cost, if that is wanted."""
        return [self._wrap([], self._costs.total())] if self._has_usage else []

    def _call(self, number: int, call: ToolCall) -> dict[str, Any]:
        function = {"name": call.name, "arguments": call.arguments}
        if self._is_legacy:
            return {"function_call": function}
        index = self._num_calls[number]
        self._num_calls[number] += 1
        return {"tool_calls": [{"index": index, "id": _call_id(), "type": "function", "function": function}]}

    def _chunk(self, number: int, reason: ChatFinishReason | None = None, **delta: Any) -> ChatCompletionChunk:
        scores, self._scores[number] = self._scores[number], []
        return self._wrap(
            [
                ChunkChoice(
                    index=number,
                    delta=ChoiceDelta(**delta),
                    finish_reason=reason,
                    logprobs=ChunkLogprobs(content=scores, refusal=None) if scores else None,
                )
            ]
        )

    def _wrap(self, choices: list[ChunkChoice], usage: CompletionUsage | None = None) -> ChatCompletionChunk:
        head = self._head
        # OpenAI's chunks have a usage of null before the last, if one is to come.
        cost: dict[str, Any] = {"usage": usage} if self._has_usage else {}
        return ChatCompletionChunk(
            id=head.id,
            object="chat.completion.chunk",
            created=head.created,
            model=head.model,
            system_fingerprint=head.fingerprint,
            choices=choices,
            **cost,
        )


class ChatWhole:
    """A chat completion that is sent when it is finished.

    Args:
        head: what identifies it.
        num_choices: how many answers it has.
        is_legacy: whether a call comes as `function_call`.
    """

    def __init__(self, head: Head, num_choices: int, *, is_legacy: bool) -> None:
        self._head = head
        self._costs = Costs(num_choices)
        self._is_legacy = is_legacy
        self._events: list[list[Event]] = [[] for _ in range(num_choices)]

    def begin(self) -> Sequence[BaseModel]:
        """Nothing yet."""
        return []

    def feed(self, number: int, event: Event) -> Sequence[BaseModel]:
        """Nothing yet."""
        self._events[number].append(event)
        if isinstance(event, Finished):
            self._costs.usages[number] = event.usage
        return []

    def end(self) -> Sequence[BaseModel]:
        """The whole answer."""
        head = self._head
        return [
            ChatCompletion(
                id=head.id,
                object="chat.completion",
                created=head.created,
                model=head.model,
                system_fingerprint=head.fingerprint,
                choices=[self._choice(number, events) for number, events in enumerate(self._events)],
                usage=self._costs.total(),
            )
        ]

    def _choice(self, number: int, events: Sequence[Event]) -> Choice:
        scores = [score for each in events if isinstance(each, Scores) and not each.is_prompt for score in each.tokens]
        (reason,) = (each.reason for each in events if isinstance(each, Finished))
        return Choice(
            index=number,
            message=self._message(events),
            finish_reason=finish_reason(reason, is_legacy=self._is_legacy),
            logprobs=ChoiceLogprobs(content=[*map(token_logprob, scores)], refusal=None) if scores else None,
        )

    def _message(self, events: Sequence[Event]) -> ChatCompletionMessage:
        text = "".join(each.text for each in events if isinstance(each, TextDelta))
        reasoning = "".join(each.text for each in events if isinstance(each, ReasoningDelta))
        calls = [each for each in events if isinstance(each, ToolCall)]
        more: dict[str, Any] = {"reasoning_content": reasoning} if reasoning else {}
        if calls and self._is_legacy:
            more["function_call"] = FunctionCall(name=calls[0].name, arguments=calls[0].arguments)
        elif calls:
            more["tool_calls"] = [
                ChatCompletionMessageFunctionToolCall(
                    id=_call_id(), type="function", function=Function(name=call.name, arguments=call.arguments)
                )
                for call in calls
            ]
        content = None if calls and not text else text
        return ChatCompletionMessage(role="assistant", content=content, refusal=None, **more)


def finish_reason(reason: FinishReason, *, is_legacy: bool) -> ChatFinishReason:
    """Why an answer ended, in OpenAI's word."""
    return "function_call" if reason == "tool_calls" and is_legacy else reason


def token_logprob(score: TokenScore) -> ChatCompletionTokenLogprob:
    """How likely one token was."""
    top = [
        TopLogprob(token=token.decode("utf-8", "replace"), bytes=list(token), logprob=finite(logprob))
        for token, logprob in score.top
    ]
    return ChatCompletionTokenLogprob(
        token=score.token.decode("utf-8", "replace"),
        bytes=list(score.token),
        logprob=finite(score.logprob or 0.0),
        top_logprobs=top,
    )


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"
