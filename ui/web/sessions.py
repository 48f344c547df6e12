"""Gradio's sessions, made small and forgotten in the right order.

Gradio 6.31 keeps a copy of every component's settings in each of them for deep links, which the guard does not let
through. On this page it takes 170 KB and four milliseconds for each tab, and holds the whole conversation once more.
When there are too many it forgets the one that was used least recently, be it open or not, and never what its queue
knows of it. Sessions are otherwise Gradio's own.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio import state_holder

MAX_SESSIONS = 300
"""More than there can be tabs that listen: each has a stream open, and those are limited."""


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


class OpenSessions(state_holder.StateHolder):
    """All sessions of a page; of too many, those that nobody listens to and that have nothing to do go first.

    Args:
        blocks: the page.
        is_listening: whether a stream of a session is open; called from any thread.
        capacity: how many there may be.
    """

    def __init__(self, blocks: gr.Blocks, is_listening: Callable[[str], bool], capacity: int = MAX_SESSIONS) -> None:
        super().__init__()
        self.set_blocks(blocks)
        self.capacity = capacity
        self._is_listening = is_listening
        self._queue = blocks._queue

    def update(self, session_id: str) -> None:
        """Notes that a session is used, and forgets others beyond the capacity."""
        with self.lock:
            if session_id in self.session_data:
                self.session_data.move_to_end(session_id)
            while len(self.session_data) > self.capacity:
                others = (one for one in self.session_data if one != session_id)
                self._forget(next((one for one in others if not self._is_in_use(one)), next(iter(self.session_data))))

    def num_pending(self, session_id: str) -> int:
        """How many events of a session have not been told to it as ended."""
        return len(self._queue.pending_event_ids_session.get(session_id, ()))

    def has_joined(self, session_id: str) -> bool:
        """Whether a session has asked for something that streams."""
        return session_id in self._queue.pending_messages_per_session

    def note_hung_up(self, session_id: str) -> None:
        """The session's stream has ended; if that was before its time, nobody will be told what is still pending."""
        if not self.has_joined(session_id):
            self._queue.pending_event_ids_session.pop(session_id, None)

    def _is_in_use(self, session_id: str) -> bool:
        pending = self._queue.pending_event_ids_session.get(session_id, ())
        return self._is_listening(session_id) or any(one in self._queue.event_ids_to_events for one in pending)

    def _forget(self, session_id: str) -> None:
        del self.session_data[session_id]
        self.time_last_used.pop(session_id, None)
        self._queue.pending_messages_per_session.pop(session_id, None)
        self._queue.pending_event_ids_session.pop(session_id, None)
