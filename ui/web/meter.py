"""What a question would cost, shown beside the box while one types: tokens, what is known, what has no room."""

from typing import Any

import gradio as gr

from model_loader.chat_format.chatml import Opening
from model_loader.chat_model import PromptCost
from model_loader.chat_source import ChatSource
from model_loader.errors import ContextLengthExceeded, InvalidSetting
from ui.chat.answer import ModelSource, as_prompt, effective_system
from ui.chat.answers import Answers
from ui.chat.conversation import Conversation, Settings
from ui.chat.conversations import Conversations
from ui.chat.drafts import Drafts
from ui.chat.message import StoredMessage
from ui.web.access import View, clean, is_id, shown_conversation
from ui.web.files import read_draft
from ui.web.fragments import Fragment, fill
from ui.web.panel import read_settings
from ui.web.strings import Language, say
from ui.web.wiring import request_language

_MAX_CHARS = 400_000
"""Longer texts are refused when they are sent; counting their tokens would only take time."""


def question_cost(
    chat_model: ChatSource, conversation: Conversation, settings: Settings, question: StoredMessage, edited_id: Any = ""
) -> PromptCost:
    """What a question that has not been asked would cost, as the next one or as another wording of an earlier one.

    Raises:
        ContextLengthExceeded: it alone is too long for the model's window.
        InvalidSetting: no prompt can be made of it.
    """
    edited = conversation.find(edited_id) if is_id(edited_id) else None
    path = conversation.path() if edited is None else conversation.path_to(edited.id)[:-1]
    prompt = as_prompt(effective_system(chat_model, settings.system, settings.language), [*path, question])
    sampling = chat_model.default_sampling.changed(**settings.sampling)
    opening = Opening(settings.prefill, thinking=settings.thinking)
    return chat_model.measure(prompt, sampling, opening=opening, owner=conversation.id)


def _over(language: Language, error: ContextLengthExceeded) -> str:
    """Both numbers: what the question takes, and what the model reads."""
    if not error.prompt_tokens:
        return str(error)
    figures = {"tokens": error.prompt_tokens, "answer": error.max_new_tokens, "window": error.context_length}
    return say(language, "meter_over", **{name: f"{figure:,}" for name, figure in figures.items()})


class MeterHandlers:
    """Measures what is in the box and the files with it."""

    def __init__(
        self, load: ModelSource, conversations: Conversations, answers: Answers, drafts: Drafts | None = None
    ) -> None:
        self._load = load
        self._conversations = conversations
        self._answers = answers
        self._drafts = drafts or Drafts()

    def measure(
        self, request: gr.Request, text: Any, edited_id: Any, draft: Any, view: View | None, *settings: Any
    ) -> Fragment | str:
        """The meter; "" while there is nothing to measure."""
        conversation, chat_model = shown_conversation(self._conversations, view), self._load.chat_model
        if conversation is None or chat_model is None:
            return ""
        text, files = clean(text), self._drafts.attachments(conversation.owner, read_draft(draft)[0])
        if not (text.strip() or files) or len(text) > _MAX_CHARS:
            return ""
        language = request_language(request)
        try:
            kept = read_settings(settings, chat_model, conversation.id) or conversation.settings
            cost = question_cost(
                chat_model, conversation, kept, StoredMessage("user", text, attachments=files), edited_id
            )
        except ContextLengthExceeded as error:
            return fill("meter", kind="over", known="0", new="100", text=_over(language, error))
        except InvalidSetting:
            return ""
        return self._meter(language, cost)

    def _meter(self, language: Language, cost: PromptCost) -> Fragment:
        tokens = f"{'≈' if cost.is_estimate else ''}{cost.tokens:,}"
        said = [say(language, "meter", tokens=tokens, max_tokens=f"{cost.max_tokens:,}")]
        if cost.cached_tokens:
            said.append(say(language, "meter_cached", tokens=f"{cost.cached_tokens:,}"))
        expected_s = self._answers.pace.expect_s(cost.tokens - cost.cached_tokens)
        if expected_s is not None and expected_s >= 0.5:
            said.append(say(language, "meter_seconds", seconds=f"{expected_s:.1f}"))
        if cost.left_out:
            said.append(say(language, "meter_left_out", messages=cost.left_out))
        known = 100 * cost.cached_tokens / cost.max_tokens
        new = min(100.0, 100 * (cost.tokens - cost.cached_tokens) / cost.max_tokens)  # an estimate may be above
        kind = "cut" if cost.left_out else "well"
        return fill("meter", kind=kind, known=f"{known:.1f}", new=f"{new:.1f}", text=" · ".join(said))
