"""ChatML: a conversation to the ids of a prompt, built piece by piece.

Roles and control tokens are placed as ids; text is encoded by a copy of the tokenizer that knows no added token at
all. So nothing that a user types, and nothing found in a history, can become a control token. This is how Qwen-7B's
`make_context` did it (QwenLM/Qwen, qwen_generation_utils.py, August 2023), and ids agree with it.

    <|im_start|>system\\n{system}<|im_end|>\\n<|im_start|>user\\n{question}<|im_end|>\\n<|im_start|>assistant\\n
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from model_loader.chat_format.messages import Message
from model_loader.chat_format.turns import Marker, Part, Turn, plain_turn, plain_turns
from model_loader.errors import CheckpointUnsupported

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"
THINK_START = "<think>"
THINK_END = "</think>"

_DEFAULT_SYSTEM = re.compile(r"<\|im_start\|>system(?:\\n|\n)((?:(?!\{[{%])[^'\"<>])+)<\|im_end\|>")
"""What a template says when no system message is given, in Jinja's spelling: Qwen1.5, Qwen2, Qwen2.5, QwQ-Preview."""
_DEFAULT_SYSTEMS = (
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "You are a helpful assistant.",
)
"""The same where it stands elsewhere in a template, in a variable for example."""
_OPENS_THINKING = re.compile(r"<think>\\n['\"]")
"""In the end of the templates of QwQ, Qwen3-Thinking-2507 and Qwen3.5, in Jinja's spelling of a newline."""
_THINKS_ON_REQUEST = "enable_thinking is true"
"""In the end of the templates of the smallest Qwen3.5, which do not think unless they are told to."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How an assistant's turn begins.

    Attributes:
        text: what it has said already; the model goes on from its end.
        reasoning: what it thought before that.
        thinking: whether the answer begins with reasoning, where the template knows how; None does as it does.
    """

    text: str = ""
    reasoning: str = ""
    thinking: bool | None = None


NO_OPENING = Opening()


class ChatML:
    """The prompt format of one tokenizer.

    Attributes:
        default_system: the system message of the checkpoint's own template, "" where it has none.
        stop_ids: the ids that end an assistant's turn.
        added_ids: the ids that no text is encoded to: control tokens and markers.
        think_start_id, think_end_id: the ids around reasoning; None where the tokenizer has none.
        can_think: whether the template knows of reasoning, so that an answer may begin with it.
        starts_thinking: whether the prompt itself opens the reasoning.
        can_switch_thinking: whether the template lets one ask for an answer with or without reasoning.
        thinks_by_default: what it does there when nobody asks.
    """

    def __init__(self, tokenizer: Tokenizer, chat_template: str = "") -> None:
        """
        Raises:
            CheckpointUnsupported: the tokenizer has no ChatML control tokens, or its text cannot be kept apart from
                them.
        """
        self._im_start_id = _control_id(tokenizer, IM_START)
        self._im_end_id = _control_id(tokenizer, IM_END)
        self._plain = _without_added_tokens(tokenizer)
        added = tokenizer.get_added_tokens_decoder()
        self._id_of_marker = {token.content: token_id for token_id, token in added.items()}
        self.added_ids = frozenset(added)
        self._newline_ids = self.encode_text("\n")
        end_of_text = tokenizer.token_to_id(END_OF_TEXT)
        turn_ends = {self._im_start_id, self._im_end_id}
        self.stop_ids = frozenset(turn_ends if end_of_text is None else {*turn_ends, end_of_text})
        self.think_start_id = tokenizer.token_to_id(THINK_START)
        self.think_end_id = tokenizer.token_to_id(THINK_END)
        self.can_think = self.think_end_id is not None and THINK_START in chat_template
        template_end = chat_template.rpartition("add_generation_prompt")[2]
        self.starts_thinking = self.think_start_id is not None and bool(_OPENS_THINKING.search(template_end))
        self.can_switch_thinking = self.think_start_id is not None and "enable_thinking" in chat_template
        self.thinks_by_default = not (self.can_switch_thinking and _THINKS_ON_REQUEST in template_end)
        default_system = _DEFAULT_SYSTEM.search(chat_template)
        if default_system is not None:
            self.default_system = default_system[1].replace("\\\\", "\\")
        else:
            self.default_system = next((each for each in _DEFAULT_SYSTEMS if each in chat_template), "")

    def encode_text(self, text: str) -> list[int]:
        """The ids of plain text; control tokens in it are spelled out, half surrogate pairs become question marks."""
        whole = text.encode("utf-8", "replace").decode("utf-8")
        return list(self._plain.encode(whole, add_special_tokens=False).ids)

    def encode_parts(self, parts: Sequence[Part]) -> list[int]:
        """The ids of text and markers; text that stands together is encoded together."""
        ids: list[int] = []
        text = ""
        for part in parts:
            token_id = self.marker_id(part.text) if isinstance(part, Marker) else None
            if token_id is None:
                text += part.text if isinstance(part, Marker) else part
                continue
            ids += [*self.encode_text(text), token_id]
            text = ""
        return ids + self.encode_text(text)

    def encode_message(self, message: Message) -> list[int]:
        """The ids of one whole turn, without the newline that stands between turns."""
        return self._encode_turn(plain_turn(message))

    def render(self, messages: Sequence[Message], opening: Opening = NO_OPENING) -> list[int]:
        """The ids of a prompt that asks for the next assistant turn, or for the rest of one that has begun.

        Raises:
            InvalidSetting: no prompt can be made of the messages.
        """
        return self.render_turns(plain_turns(messages), opening)

    def render_turns(self, turns: Sequence[Turn], opening: Opening = NO_OPENING) -> list[int]:
        """As `render`, for turns that hold more than text; the opening is left out where the last one is open."""
        ids: list[int] = []
        for turn in turns:
            ids += self._encode_turn(turn)
            if turn.is_open:
                return ids
            ids += self._newline_ids
        return ids + self.opening_ids(opening)

    def _encode_turn(self, turn: Turn) -> list[int]:
        start = (self._im_start_id, *self.encode_text(turn.role))
        end = () if turn.is_open else (self._im_end_id,)
        if turn.joins_newline:
            return [*start, *self.encode_parts(("\n", *turn.parts)), *end]
        return [*start, *self._newline_ids, *self.encode_parts(turn.parts), *end]

    def marker_id(self, text: str) -> int | None:
        """The id of an added token; None where the tokenizer has none of that text."""
        return self._id_of_marker.get(text)

    def opening_ids(self, opening: Opening = NO_OPENING) -> list[int]:
        """The ids that open the assistant's turn, and what is said of it already."""
        if opening.text or opening.reasoning:
            return self._turn_start_ids + self._spoken_ids(opening)
        if self.skips_thinking(opening):
            return self._turn_start_ids + self._think_ids("")
        return self.answer_start_ids

    def begins_thinking(self, opening: Opening) -> bool:
        """Whether what the model says first is reasoning that has begun already."""
        if opening.text or opening.reasoning:
            return not opening.text and self.think_start_id is not None
        return self.starts_thinking and not self.skips_thinking(opening)

    def skips_thinking(self, opening: Opening) -> bool:
        """Whether the model is told to answer without reasoning, by the opening or by its template."""
        thinks = opening.thinking if opening.thinking is not None else self.thinks_by_default
        return self.can_switch_thinking and not thinks

    def _spoken_ids(self, opening: Opening) -> list[int]:
        """What was thought and said; thinking that has no answer yet stays open."""
        may_think = self.think_start_id is not None and self.think_end_id is not None
        if not may_think or not (opening.reasoning or self.starts_thinking or opening.thinking is False):
            return self.encode_text(opening.text)
        if opening.text:
            return self._think_ids(opening.reasoning) + self.encode_text(opening.text)
        assert self.think_start_id is not None
        return [self.think_start_id, *self.encode_text(f"\n{opening.reasoning}")]

    def _think_ids(self, reasoning: str) -> list[int]:
        """A whole block of reasoning, as Qwen3's template writes it."""
        assert self.think_start_id is not None
        assert self.think_end_id is not None
        inside = self.encode_text(f"\n{reasoning}\n")
        return [self.think_start_id, *inside, self.think_end_id, *self.encode_text("\n\n")]

    @property
    def answer_start_ids(self) -> list[int]:
        """The ids that open the assistant's turn."""
        if self.starts_thinking and self.think_start_id is not None:
            return [*self._turn_start_ids, self.think_start_id, *self._newline_ids]
        return self._turn_start_ids

    @property
    def _turn_start_ids(self) -> list[int]:
        return [self._im_start_id, *self.encode_text("assistant"), *self._newline_ids]

    @property
    def separator_tokens(self) -> int:
        """How many tokens stand between two turns."""
        return len(self._newline_ids)


def _control_id(tokenizer: Tokenizer, token: str) -> int:
    token_id = tokenizer.token_to_id(token)
    if token_id is None:
        raise CheckpointUnsupported(
            f"The tokenizer has no {token} token, so this is no ChatML chat model. Use a chat checkpoint of the Qwen "
            "family, such as -c Qwen/Qwen3-4B."
        )
    return int(token_id)


def _without_added_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """A copy of a tokenizer that treats the text of every added token as text, checked token by token."""
    description = json.loads(tokenizer.to_str())
    added_ids = {each["id"] for each in description["added_tokens"]}
    added_texts = [each["content"] for each in description["added_tokens"]]
    description["added_tokens"] = []
    plain = Tokenizer.from_str(json.dumps(description))
    for text in added_texts:
        if added_ids.intersection(plain.encode(text, add_special_tokens=False).ids):
            raise CheckpointUnsupported(
                f"The tokenizer cannot spell out {text}, so a message could forge it. Use another checkpoint."
            )
    return plain
