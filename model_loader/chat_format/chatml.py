"""ChatML: a conversation to the ids of a prompt, built piece by piece.

Roles and control tokens are placed as ids; text is encoded by a copy of the tokenizer that knows no added token at
all. So nothing that a user types, and nothing found in a history, can become a control token. This is how Qwen-7B's
`make_context` did it (QwenLM/Qwen, qwen_generation_utils.py, August 2023), and ids agree with it.

    <|im_start|>system\\n{system}<|im_end|>\\n<|im_start|>user\\n{question}<|im_end|>\\n<|im_start|>assistant\\n
"""

import json
from collections.abc import Sequence

from tokenizers import Tokenizer

from model_loader.chat_format.messages import Message, check_conversation
from model_loader.errors import CheckpointUnsupported

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"
THINK_START = "<think>"
THINK_END = "</think>"

_DEFAULT_SYSTEMS = (
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "You are a helpful assistant.",
)
"""What the families' own templates say when no system message is given: Qwen2.5; Qwen1.5 and Qwen2."""
_TEMPLATE_OPENS_THINKING = "<|im_start|>assistant\\n<think>\\n"
"""As QwQ's and Qwen3-Thinking-2507's templates end, in Jinja's spelling of a newline."""


class ChatML:
    """The prompt format of one tokenizer.

    Attributes:
        default_system: the system message of the checkpoint's own template, "" where it has none.
        stop_ids: the ids that end an assistant's turn.
        think_start_id, think_end_id: the ids around reasoning; None where the tokenizer has none.
        starts_thinking: whether the prompt itself opens the reasoning.
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
        self._newline_ids = self.encode_text("\n")
        end_of_text = tokenizer.token_to_id(END_OF_TEXT)
        turn_ends = {self._im_start_id, self._im_end_id}
        self.stop_ids = frozenset(turn_ends if end_of_text is None else {*turn_ends, end_of_text})
        self.think_start_id = tokenizer.token_to_id(THINK_START)
        self.think_end_id = tokenizer.token_to_id(THINK_END)
        self.starts_thinking = self.think_start_id is not None and _TEMPLATE_OPENS_THINKING in chat_template
        self.default_system = next((each for each in _DEFAULT_SYSTEMS if each in chat_template), "")

    def encode_text(self, text: str) -> list[int]:
        """The ids of plain text; control tokens in it are spelled out, half surrogate pairs become question marks."""
        whole = text.encode("utf-8", "replace").decode("utf-8")
        return list(self._plain.encode(whole, add_special_tokens=False).ids)

    def encode_message(self, message: Message) -> list[int]:
        """The ids of one whole turn, without the newline that stands between turns."""
        return [
            self._im_start_id,
            *self.encode_text(message.role),
            *self._newline_ids,
            *self.encode_text(message.content),
            self._im_end_id,
        ]

    def render(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a prompt that asks for the next assistant turn.

        Raises:
            InvalidSetting: the conversation is empty, ends with an answer, or has a system message in its middle.
        """
        check_conversation(messages)
        ids: list[int] = []
        for message in messages:
            ids += self.encode_message(message)
            ids += self._newline_ids
        return ids + self.answer_start_ids

    @property
    def answer_start_ids(self) -> list[int]:
        """The ids that open the assistant's turn."""
        opening = [self._im_start_id, *self.encode_text("assistant"), *self._newline_ids]
        if self.starts_thinking and self.think_start_id is not None:
            opening += [self.think_start_id, *self._newline_ids]
        return opening

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
