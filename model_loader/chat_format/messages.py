"""One message of a conversation as every part of the application passes it on.

A message carries text and a role and nothing of any prompt format: control tokens are the business of `chatml`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from model_loader.errors import InvalidSetting
from model_loader.events import ToolCall

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """Who said what. The content is plain text in which nothing is a control token.

    Attributes:
        role: "tool" brings the result of one call that the assistant's message before it made.
        tool_calls: what an assistant's message asks for, after its content.

    Raises:
        InvalidSetting: the role is none of the four, or another than the assistant calls tools.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise InvalidSetting(f"A message has the role {self.role!r}; use one of {', '.join(get_args(Role))}.")
        if self.tool_calls and self.role != "assistant":
            raise InvalidSetting(f"A message of the {self.role} calls tools; only the assistant's may.")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for.

    Attributes:
        name: letters, digits, underscores and dashes, 64 at most.
        description: what it does, for the model.
        parameters: a JSON schema of its arguments, always of an object.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Which tools an answer may use, and how.

    Attributes:
        choice: "auto" leaves it to the model, "none" hides the tools, "required" wants a call, and any other word is
            the name of the one tool that must be called.
        is_parallel: whether one answer may hold several calls.
    """

    tools: tuple[Tool, ...] = ()
    choice: str = "auto"
    is_parallel: bool = True


NO_TOOLS = ToolUse()


def check_conversation(messages: Sequence[Message]) -> None:
    """Refuses a list that no prompt can be made of.

    Raises:
        InvalidSetting: the list is empty, a system message is not the first one, or the last one is not the user's.
    """
    if not messages:
        raise InvalidSetting("The conversation is empty; it needs at least one user message.")
    for position, message in enumerate(messages[1:], start=2):
        if message.role == "system":
            raise InvalidSetting(f"Message {position} is a system message; only the first message may be one.")
    if messages[-1].role != "user":
        raise InvalidSetting(f"The last message is the {messages[-1].role}'s; it must be the user's.")
