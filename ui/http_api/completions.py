"""Events to text completions: the pieces of a stream, or one object at the end; echo and scores of the prompt too."""

import codecs
from collections.abc import Callable, Sequence
from typing import Any

from openai.types import Completion, CompletionChoice, CompletionUsage
from openai.types.completion_choice import Logprobs
from pydantic import BaseModel

from model_loader.events import Event, Finished, FinishReason, Scores, TextDelta, TokenScore
from ui.http_api.answers import Costs, Head, finite, spell


class _Choice:
    """One continuation: what it adds to the object that is sent next.

    Attributes:
        text, scores: what has come since `take` was called last.
        has_begun: whether its echo has been sent.
    """

    def __init__(self, echo: str) -> None:
        self.echo = echo
        self.has_begun = not echo
        self.text = ""
        self.scores: list[TokenScore] = []
        self._offset = 0
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def take_logprobs(self) -> Logprobs | None:
        """The scores in the form of completions: four lists of the same length."""
        scores, self.scores = self.scores, []
        if not scores:
            return None
        offsets = []
        for score in scores:
            offsets.append(self._offset)
            self._offset += len(self._characters.decode(score.token))
        return Logprobs.construct(  # not checked: OpenAI's type forbids the null that its API gives the first token
            tokens=[spell(score.token) for score in scores],
            token_logprobs=[None if score.logprob is None else finite(score.logprob) for score in scores],
            top_logprobs=[_top(score) for score in scores],
            text_offset=offsets,
        )


class TextCompletions:
    """The continuations of one or more texts.

    Args:
        head: what every piece repeats.
        echoes: of each text what is sent before its continuation, "" for nothing.
        num_each: how many continuations each text has.
        is_streamed: whether pieces are sent as they come.
        has_usage: whether a last piece of a stream says what it cost.
        has_answer: whether there is more than the echo.
    """

    def __init__(
        self,
        head: Head,
        echoes: Sequence[str],
        num_each: int,
        *,
        is_streamed: bool,
        has_usage: bool,
        has_answer: bool,
    ) -> None:
        self._head = head
        self._choices = [_Choice(echo) for echo in echoes for _ in range(num_each)]
        self._costs = Costs(num_each)
        self._is_streamed = is_streamed
        self._has_usage = has_usage
        self._has_answer = has_answer
        self._finished: list[CompletionChoice] = []

    def begin(self) -> Sequence[BaseModel]:
        """Nothing: an echo comes with the first event, after which the texts are known to be good."""
        return []

    def feed(self, number: int, event: Event) -> Sequence[BaseModel]:
        """What an event adds; scores wait for the text that their tokens complete, those of the prompt for nothing."""
        choice = self._choices[number]
        match event:
            case Scores(tokens, is_prompt):
                if is_prompt or self._has_answer:
                    choice.scores += tokens
                if not is_prompt:
                    return []
            case TextDelta(text) if self._has_answer:
                choice.text += text
            case Finished(reason, usage):
                self._costs.usages[number] = usage
                return self._send(number, reason if self._has_answer else "length")
        has_more = choice.text or (choice.scores and not choice.has_begun)
        return self._send(number, None) if self._is_streamed and has_more else []

    def end(self) -> Sequence[BaseModel]:
        """The whole answer, or what a stream cost."""
        total = self._costs.total(counts_answers=self._has_answer)
        if not self._is_streamed:
            return [self._wrap(sorted(self._finished, key=lambda choice: choice.index), total)]
        return [self._wrap([], total)] if self._has_usage else []

    def _send(self, number: int, reason: FinishReason | None) -> Sequence[BaseModel]:
        choice = self._choices[number]
        text, choice.text = choice.text, ""
        if not choice.has_begun:
            choice.has_begun = True
            text = choice.echo + text
        sent = CompletionChoice.construct(  # not checked: OpenAI's type forbids the null that its streams have
            index=number, text=text, finish_reason=reason, logprobs=choice.take_logprobs()
        )
        if self._is_streamed:
            return [self._wrap([sent], None)]
        self._finished.append(sent)
        return []

    def _wrap(self, choices: list[CompletionChoice], usage: CompletionUsage | None) -> Completion:
        head = self._head
        cost: dict[str, Any] = {"usage": usage} if self._has_usage or not self._is_streamed else {}
        return Completion.construct(
            id=head.id,
            object="text_completion",
            created=head.created,
            model=head.model,
            system_fingerprint=head.fingerprint,
            choices=choices,
            **cost,
        )


def _top(score: TokenScore) -> dict[str, float] | None:
    """The likeliest tokens and the one that was taken, by their text; the likeliest of those that look the same."""
    if score.logprob is None:
        return None
    found: dict[str, float] = {}
    for token, logprob in (*score.top, (score.token, score.logprob)):
        found.setdefault(spell(token), finite(logprob))
    return found


def echoes_of(prompts: Sequence[str | list[int]], decode: Callable[[list[int]], str]) -> list[str]:
    """Every text as text."""
    return [prompt if isinstance(prompt, str) else decode(prompt) for prompt in prompts]
