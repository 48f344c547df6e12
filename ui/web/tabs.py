"""The browser tabs that are open now, and what each of them shows.

A tab is named by Gradio's session hash, which anybody could guess or invent: it only says that somebody looks and how
far back, never whose conversation it is. It knows no widgets.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

_MAX_TABS = 2_000


@dataclass(slots=True)
class _Tab:
    owner: str
    conversation_id: str
    max_shown: int
    is_following: bool = False
    has_news: bool = False
    turned: frozenset[str] = frozenset()


class Tabs:
    """All open tabs. All methods may be called from any thread."""

    def __init__(self, shown_messages: int, is_listening: Callable[[str], bool] = lambda tab_id: True) -> None:
        self._shown_messages = shown_messages
        self._is_listening = is_listening
        self._lock = threading.Lock()
        self._tabs: dict[str, _Tab] = {}

    def enter(self, tab_id: str, owner: str, conversation_id: str) -> None:
        """This owner's tab shows that conversation now. Of more than 2,000 tabs the first that does not listen goes."""
        with self._lock:
            tab = self._tabs.get(tab_id)
            if tab is None:
                while len(self._tabs) >= _MAX_TABS:
                    silent = (one for one in self._tabs if not self._is_listening(one))
                    del self._tabs[next(silent, next(iter(self._tabs)))]
                self._tabs[tab_id] = _Tab(owner, conversation_id, self._shown_messages)
            elif tab.conversation_id != conversation_id:
                tab.owner, tab.conversation_id, tab.max_shown = owner, conversation_id, self._shown_messages

    def listens(self, tab_id: str) -> bool:
        """Whether the tab has a stream open."""
        return self._is_listening(tab_id)

    def leave(self, tab_id: str) -> None:
        """This tab was closed or reloaded."""
        with self._lock:
            self._tabs.pop(tab_id, None)

    def num_showing(self, conversation_id: str) -> int:
        """How many tabs that listen show the conversation."""
        with self._lock:
            shown = (one for one, tab in self._tabs.items() if tab.conversation_id == conversation_id)
            return sum(map(self._is_listening, shown))

    def shown_in(self, tab_id: str) -> str:
        """Id of the conversation that the tab shows; "" if there is no such tab."""
        with self._lock:
            tab = self._tabs.get(tab_id)
            return "" if tab is None else tab.conversation_id

    def is_here(self, owner: str) -> bool:
        """Whether the owner has a tab open that listens, whatever it shows. A caller may invent tabs that never do."""
        with self._lock:
            return any(tab.owner == owner and self._is_listening(one) for one, tab in self._tabs.items())

    def is_shown_elsewhere(self, tab_id: str, conversation_id: str) -> bool:
        """Whether a tab other than this one that listens shows the conversation.

        What a tab asked for just before it was closed is done after it left, and enters it again.
        """
        with self._lock:
            shown = (one for one, tab in self._tabs.items() if tab.conversation_id == conversation_id)
            return any(one != tab_id and self._is_listening(one) for one in shown)

    def max_shown(self, tab_id: str) -> int:
        """How many messages the tab shows at most."""
        with self._lock:
            tab = self._tabs.get(tab_id)
            return self._shown_messages if tab is None else tab.max_shown

    def show_more(self, tab_id: str) -> None:
        """Shows one page of messages more."""
        with self._lock:
            if tab_id in self._tabs:
                self._tabs[tab_id].max_shown += self._shown_messages

    def turned(self, tab_id: str) -> frozenset[str]:
        """The messages that the tab shows as they were written, not rendered."""
        with self._lock:
            tab = self._tabs.get(tab_id)
            return frozenset() if tab is None else tab.turned

    def turn(self, tab_id: str, message_id: str) -> None:
        """Shows a message as it was written, or rendered if it is shown so already."""
        with self._lock:
            if tab_id in self._tabs:
                self._tabs[tab_id].turned ^= {message_id}

    def begin_following(self, tab_id: str) -> bool:
        """Whether the caller is to keep this tab up to date; if another does already, that one is told to go on."""
        with self._lock:
            tab = self._tabs.get(tab_id)
            if tab is None:
                return False
            tab.has_news = tab.is_following
            was_following, tab.is_following = tab.is_following, True
            return not was_following

    def may_stop_following(self, tab_id: str) -> bool:
        """Whether the follower is done; False when it was told to go on since it last asked."""
        with self._lock:
            tab = self._tabs.get(tab_id)
            if tab is None:
                return True
            tab.is_following, tab.has_news = tab.has_news, False
            return not tab.is_following

    def abandon_following(self, tab_id: str) -> None:
        """The follower has ended without asking, because the tab or its task has."""
        with self._lock:
            if tab_id in self._tabs:
                self._tabs[tab_id].is_following = False
