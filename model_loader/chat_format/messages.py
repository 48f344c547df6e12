"""One message of a conversation as every part of the application passes it on.

A message carries text and a role and nothing of any prompt format: control tokens are the business of `chatml`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from model_loader.errors import InvalidSetting
from model_loader.events import ToolCall

Role = Literal["system", "user", "assistant", "tool"]

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CHOICES = ("auto", "none", "required")


@dataclass(frozen=True, slots=True)
class Message:
    """Who said what. The content is plain text in which nothing is a control token.

    Attributes:
        role: "tool" brings the result of one call that the assistant's message before it made.
        tool_calls: what an assistant's message asks for, after its content.
        reasoning: what the assistant thought before; prompts repeat it only where the checkpoint's template does.

    Raises:
        InvalidSetting: the role is none of the four, or another than the assistant calls tools or thinks.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise InvalidSetting(f"A message has the role {self.role!r}; use one of {', '.join(get_args(Role))}.")
        if self.tool_calls and self.role != "assistant":
            raise InvalidSetting(f"A message of the {self.role} calls tools; only the assistant's may.")
        if self.reasoning and self.role != "assistant":
            raise InvalidSetting(f"A message of the {self.role} has reasoning; only the assistant's may.")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for.

    Attributes:
        name: letters, digits, underscores and dashes, 64 at most.
        description: what it does, for the model.
        parameters: a JSON schema of its arguments, always of an object.

    Raises:
        InvalidSetting: the name has other characters or stands for a choice of tools, or the parameters are no such
            schema.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not _TOOL_NAME.fullmatch(self.name):
            raise InvalidSetting(
                f"A tool is called {self.name!r:.100}; use 1 to 64 letters, digits, underscores and dashes."
            )
        if self.name in _CHOICES:
            raise InvalidSetting(f"A tool is called {self.name!r}, a word that chooses among tools; give it another.")
        if self.parameters is not None:
            _check_parameters(self.name, self.parameters)


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Which tools an answer may use, and how.

    Attributes:
        choice: "auto" leaves it to the model, "none" hides the tools, "required" wants a call, and any other word is
            the name of the one tool that must be called.
        is_parallel: whether one answer may hold several calls.

    Raises:
        InvalidSetting: two tools have one name, or the choice is none of these words and names.
    """

    tools: tuple[Tool, ...] = ()
    choice: str = "auto"
    is_parallel: bool = True

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.tools]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidSetting(f"Two tools are called {twice!r}; give each a name of its own.")
        if self.choice not in (*_CHOICES, *names):
            known = ", ".join((*_CHOICES, *names))
            raise InvalidSetting(f"The choice of tools is {self.choice!r:.100}; use one of {known}.")
        if self.choice == "required" and not self.tools:
            raise InvalidSetting("The choice of tools is 'required', but no tools are given; give some, or use 'auto'.")

    @property
    def offered(self) -> tuple[Tool, ...]:
        """The tools that the model is told of."""
        return () if self.choice == "none" else self.tools

    @property
    def demanded(self) -> tuple[Tool, ...]:
        """The tools of which one must be called; none where the model may do as it likes."""
        if self.choice == "required":
            return self.tools
        return tuple(tool for tool in self.tools if tool.name == self.choice)


NO_TOOLS = ToolUse()


def check_conversation(messages: Sequence[Message]) -> None:
    """Refuses a list that no prompt can be made of.

    Raises:
        InvalidSetting: the list is empty, a system message is not the first one, a tool's result belongs to no call, or
            the last message is neither the user's nor a tool's.
    """
    if not messages:
        raise InvalidSetting("The conversation is empty; it needs at least one user message.")
    num_open_calls = 0
    for position, message in enumerate(messages, start=1):
        if message.role == "system" and position > 1:
            raise InvalidSetting(f"Message {position} is a system message; only the first message may be one.")
        if message.role != "tool":
            num_open_calls = len(message.tool_calls)
            continue
        if not num_open_calls:
            raise InvalidSetting(
                f"Message {position} is a tool's result, but the assistant's message before it made no call for it. "
                "Put it behind the message with the call."
            )
        num_open_calls -= 1
    if messages[-1].role not in ("user", "tool"):
        raise InvalidSetting(
            f"The last message is the {messages[-1].role}'s; it must be the user's or the result of a tool."
        )


def _check_parameters(name: str, parameters: Mapping[str, Any]) -> None:
    kind = parameters.get("type", "object")
    if kind != "object":
        raise InvalidSetting(
            f"The parameters of the tool {name} are of the type {kind!r:.100}; a tool takes an object. Give a JSON "
            'schema with "type": "object".'
        )
    try:
        json.dumps(parameters, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidSetting(
            f"The parameters of the tool {name} cannot be written as JSON ({error}). Give a JSON schema."
        ) from None
