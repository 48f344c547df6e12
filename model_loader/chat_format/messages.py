"""One message of a conversation as every part of the application passes it on.

A message carries text and a role and nothing of any prompt format: control tokens are the business of `chatml`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from model_loader.errors import InvalidSetting

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """Who said what. The content is plain text in which nothing is a control token.

    Raises:
        InvalidSetting: the role is none of the three.
    """

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise InvalidSetting(f"A message has the role {self.role!r}; use one of {', '.join(get_args(Role))}.")


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
