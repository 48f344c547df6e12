"""What a question would cost, shown beside the box while one types: tokens, what is known, what has no room."""

from typing import Any

import gradio as gr

from model_loader.chat_format.chatml import Opening
from model_loader.chat_format.messages import Message
from model_loader.chat_model import PromptCost
from model_loader.chat_source import ChatSource
from model_loader.errors import ContextLengthExceeded, InvalidSetting
from ui.chat.answer import ModelSource, as_prompt, effective_system
from ui.chat.answers import Answers
from ui.chat.conversation import Conversation, Settings
from ui.chat.conversations import Conversations
from ui.web.access import View, clean, is_id, shown_conversation
from ui.web.fragments import Fragment, fill
from ui.web.panel import read_settings
from ui.web.strings import Language, say
from ui.web.wiring import request_language

_MAX_CHARS = 400_000
"""Longer texts are refused when they are sent; counting their tokens would only take time."""


class MeterHandlers:
    """Measures what is in the box."""

    def __init__(self, load: ModelSource, conversations: Conversations, answers: Answers) -> None:
        self._load = load
        self._conversations = conversations
        self._answers = answers

    def measure(
        self, request: gr.Request, text: Any, edited_id: Any, view: View | None, *settings: Any
    ) -> Fragment | str:
        """The meter; "" while there is nothing to measure."""
        conversation, chat_model = shown_conversation(self._conversations, view), self._load.chat_model
        text = clean(text)
        if conversation is None or chat_model is None or not text.strip() or len(text) > _MAX_CHARS:
            return ""
        language = request_language(request)
        try:
            kept = read_settings(settings, chat_model) or conversation.settings
            cost = self._cost(chat_model, conversation, kept, text, edited_id)
        except ContextLengthExceeded as error:
            return fill("meter", kind="over", known="0", new="100", text=str(error))
        except InvalidSetting:
            return ""
        return self._meter(language, cost)

    def _cost(
        self, chat_model: ChatSource, conversation: Conversation, settings: Settings, text: str, edited_id: Any
    ) -> PromptCost:
        edited = conversation.find(edited_id) if is_id(edited_id) else None
        path = conversation.path() if edited is None else conversation.path_to(edited.id)[:-1]
        prompt = as_prompt(effective_system(chat_model, settings.system, settings.language), path)
        sampling = chat_model.default_sampling.changed(**settings.sampling)
        opening = Opening(settings.prefill, thinking=settings.thinking)
        return chat_model.measure([*prompt, Message("user", text)], sampling, opening=opening, owner=conversation.id)

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
