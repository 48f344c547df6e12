"""The turns of a prompt before they are ids: text, and the markers of its structure apart from it.

What a user or a tool says only ever becomes text here. So whoever makes ids of the turns can give the markers their
own tokens and be sure that nothing else gets them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from model_loader.chat_format.messages import Message, check_conversation


@dataclass(frozen=True, slots=True)
class Marker:
    """A piece of structure such as `<tool_call>`: one token where the tokenizer has it, its text elsewhere."""

    text: str


Part = str | Marker


@dataclass(frozen=True, slots=True)
class Turn:
    """What stands between a role and the end of its turn.

    Attributes:
        role: as the prompt names it.
        parts: what is said, in order.
        is_open: whether the model goes on from the end of it; only a last turn may be.
        joins_newline: whether the newline behind the role is encoded in one piece with the text, as templates do it.
    """

    role: str
    parts: tuple[Part, ...]
    is_open: bool = False
    joins_newline: bool = False


def plain_turn(message: Message) -> Turn:
    """A message that is text alone."""
    return Turn(message.role, (message.content,))


def plain_turns(messages: Sequence[Message]) -> list[Turn]:
    """One turn for each message of a conversation without tools.

    Raises:
        InvalidSetting: no prompt can be made of the messages.
    """
    check_conversation(messages)
    return [plain_turn(message) for message in messages]


def turns_with_results(
    messages: Sequence[Message],
    spoken: Callable[[int, Message], tuple[Part, ...]],
    said: Callable[[Message], Turn],
    result: Callable[[Message], tuple[Part, ...]],
    between: str,
) -> list[Turn]:
    """Turns of a conversation with calls of tools: results that follow one another share one turn of the user.

    Args:
        messages: without the system message where the tools stand in it.
        spoken: what the assistant's message at a place says, calls included.
        said: the turn of any other message.
        result: what a tool's message says.
        between: what stands between two results.
    """
    turns: list[Turn] = []
    for place, message in enumerate(messages):
        if message.role == "assistant":
            turns.append(Turn("assistant", spoken(place, message)))
        elif message.role != "tool":
            turns.append(said(message))
        elif messages[place - 1].role == "tool":
            turns[-1] = Turn("user", (*turns[-1].parts, between, *result(message)))
        else:
            turns.append(Turn("user", result(message)))
    return turns
