"""Gradio's sessions without the copy of every component's settings that each of them would keep.

Gradio 6.31 keeps that copy for deep links, which the guard does not let through. On this page it takes 170 KB and four
milliseconds for each tab, and holds the whole conversation once more. Sessions are otherwise Gradio's own.
"""

from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio import state_holder


class LeanSession(state_holder.SessionState):
    """A session that remembers its states and the components that an event replaced, and no settings."""

    def __init__(self, blocks: gr.Blocks) -> None:
        without_components: Any = SimpleNamespace(default_config=blocks.default_config, blocks=())
        super().__init__(without_components)

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass


def keep_sessions_lean() -> None:
    """Lets Gradio make such sessions from now on."""
    state_holder.SessionState = LeanSession  # type: ignore[misc]
