"""How a model is told of tools, and how it asks for one: what every dialect does, and the one of models without any.

A dialect is made for one checkpoint. It turns messages into turns and gives a reader for the answer; it knows no ids
but those of markers.
"""

from collections.abc import Sequence
from typing import Protocol

from model_loader.chat_format.answer_reader import AnswerReader
from model_loader.chat_format.chatml import ChatML, Opening
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.messages import Message, ToolUse
from model_loader.chat_format.turns import Part, Turn, plain_turns
from model_loader.errors import InvalidSetting


class Dialect(Protocol):
    """What every dialect does.

    Attributes:
        supports_tools: whether the model was taught to call them.
        writes_json: whether its calls are JSON between `<tool_call>` and `</tool_call>`.
    """

    supports_tools: bool
    writes_json: bool

    def turns(self, messages: Sequence[Message], tools: ToolUse) -> list[Turn]:
        """The turns of a prompt.

        Raises:
            InvalidSetting: no prompt can be made of the messages, or the model knows no tools.
        """

    def beginnings(self, messages: Sequence[Message], tools: ToolUse, opening: Opening) -> list[tuple[Part, ...]]:
        """With what an answer begins that must call a tool, for each of the tools; nothing where it need not."""

    def reader(
        self, messages: Sequence[Message], tools: ToolUse, stop: Sequence[str], opening: Opening
    ) -> AnswerReader:
        """Reads the answer.

        Raises:
            InvalidSetting: a stop string is empty, or an answer that has begun like this cannot go on with tools.
        """


class NoTools:
    """Plain ChatML.

    Args:
        name: of the checkpoint, for messages.
    """

    supports_tools = False
    writes_json = False

    def __init__(self, chat_format: ChatML, vocabulary: Vocabulary, name: str) -> None:
        self._format = chat_format
        self._vocabulary = vocabulary
        self._name = name

    def turns(self, messages: Sequence[Message], tools: ToolUse) -> list[Turn]:
        """As `Dialect` says."""
        if tools.offered:
            raise InvalidSetting(f"{self._name} cannot call tools: {_REASON}")
        for position, message in enumerate(messages, start=1):
            if message.tool_calls or message.role == "tool":
                raise InvalidSetting(
                    f"Message {position} belongs to a call of a tool, and {self._name} cannot call tools: {_REASON}"
                )
        return plain_turns(messages)

    def beginnings(self, messages: Sequence[Message], tools: ToolUse, opening: Opening) -> list[tuple[Part, ...]]:
        """As `Dialect` says."""
        return []

    def reader(
        self, messages: Sequence[Message], tools: ToolUse, stop: Sequence[str], opening: Opening
    ) -> AnswerReader:
        """As `Dialect` says."""
        return AnswerReader(self._format, self._vocabulary, stop, opening)


_REASON = (
    "its chat template has no <tool_call>. Leave them out, or load a model that knows them, such as -c Qwen/Qwen3-4B."
)
