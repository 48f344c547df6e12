"""What every front end knows of a model, wherever it computes: the surface that `ChatModel` and `RemoteModel` share.

`chat_model` computes on this machine, `remote` asks a server elsewhere, and tests bring one that follows a script.
A front end that keeps to this protocol serves all of them.
"""

from collections.abc import Generator, Sequence
from typing import Protocol

from model_loader.chat_format.chatml import NO_OPENING, Opening
from model_loader.chat_format.messages import NO_TOOLS, Message, ToolUse
from model_loader.chat_model import NO_CONTROLS, Controls, Fitted, PromptCost
from model_loader.engine.request import EngineActivity, Sampling
from model_loader.events import Event


class CheckpointFacts(Protocol):
    """What is known of the files behind a model; "" where nothing is."""

    @property
    def source(self) -> str:
        """The hub they were fetched from, and why from that one."""

    @property
    def revision(self) -> str:
        """The commit that was fetched."""

    @property
    def template_hash(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of the chat template."""


class PlacementFacts(Protocol):
    """Where a model computes."""

    @property
    def reason(self) -> str:
        """Where, in which number format and why, to follow "in"."""

    @property
    def summary(self) -> str:
        """The same in a few words."""


class ChatSource(Protocol):
    """A model that is ready to answer. Every method may be called from any thread.

    `ChatModel` says what each part means; here stands only what another model may do differently.
    """

    @property
    def name(self) -> str:
        """What the user asked for, or what a server calls it."""

    @property
    def checkpoint(self) -> CheckpointFacts: ...

    @property
    def placement(self) -> PlacementFacts: ...

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together; a model elsewhere may turn out to have fewer."""

    @property
    def window_reason(self) -> str: ...

    @property
    def capacity(self) -> str: ...

    @property
    def problem(self) -> str | None: ...

    @property
    def default_system(self) -> str: ...

    @property
    def default_sampling(self) -> Sampling: ...

    @property
    def is_completion_model(self) -> bool: ...

    @property
    def can_switch_thinking(self) -> bool: ...

    @property
    def thinks_by_default(self) -> bool: ...

    @property
    def supports_tools(self) -> bool: ...

    @property
    def activity(self) -> EngineActivity: ...

    def encode(self, text: str) -> list[int]:
        """The ids of a text in which nothing is a control token.

        Raises:
            ServerIncompatible: a model elsewhere does not tell them.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids.

        Raises:
            ServerIncompatible: a model elsewhere does not tell it.
        """

    def measure(
        self, messages: Sequence[Message], sampling: Sampling, *, opening: Opening = NO_OPENING, owner: str = ""
    ) -> PromptCost:
        """What a question would cost; an estimate is marked as one."""

    def fit(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        opening: Opening = NO_OPENING,
        tools: ToolUse = NO_TOOLS,
    ) -> Fitted:
        """Leaves out whole turns, oldest first, until prompt and answer fit the window."""

    def stream(
        self,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        *,
        stop: Sequence[str] = (),
        opening: Opening = NO_OPENING,
        owner: str = "",
        tools: ToolUse = NO_TOOLS,
        controls: Controls = NO_CONTROLS,
    ) -> Generator[Event]:
        """The answer to a conversation; errors are raised where it is read, closing it cancels."""

    def complete(
        self,
        text: str | Sequence[int],
        sampling: Sampling | None = None,
        *,
        stop: Sequence[str] = (),
        owner: str = "",
        controls: Controls = NO_CONTROLS,
    ) -> Generator[Event]:
        """How a text goes on."""

    def close(self) -> None:
        """Ends every running answer and frees what it holds."""
