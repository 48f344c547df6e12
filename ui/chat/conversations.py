"""All conversations, each reachable by its owner alone; on the disk, or in memory where nothing is to be kept.

What comes in is an owner's id and a conversation's id; what goes out is the conversation, or nothing when it is
missing or another owner's: the two cannot be told apart. Questions and ends of answers are saved at once, growing
answers twice a second by a thread; what the disk refuses is kept and tried again. It does not know who looks:
`is_open` tells it.
"""

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from ui.chat.attachment import Attachment
from ui.chat.conversation import Conversation, ConversationRecord, Settings, title_of_question
from ui.chat.database import Database, Found
from ui.chat.export import Tree
from ui.chat.message import StoredMessage, new_id
from ui.chat.refusal import Refused
from ui.chat.rows import with_known_heads
from ui.chat.store_limits import IN_MEMORY_LIMITS, StoreLimits

logger = logging.getLogger(__name__)

_SAVE_EVERY_S = 0.5
_EXPIRE_EVERY_S = 3600.0
_DAY_S = 86_400.0
_MAX_LOADED = 64
"""Conversations kept in memory that nobody looks at and that are saved."""
_FRESH_S = 60.0
"""An empty conversation is nowhere but in memory, and its tab needs a moment to say that it shows it."""
_MAX_PRESETS = 100
_MAX_NAME_CHARS = 80


class Conversations:
    """The store. All methods may be called from any thread.

    Args:
        is_open: whether a conversation, by id, is on somebody's screen or being answered.
        limits: what may be kept; None takes what suits the database.
        database: where it is kept; None keeps it in memory.

    Attributes:
        problem: why something could not be saved, as the system says it; None while everything is.
    """

    def __init__(
        self, is_open: Callable[[str], bool], limits: StoreLimits | None = None, database: Database | None = None
    ) -> None:
        self.limits = limits or (IN_MEMORY_LIMITS if database is None else StoreLimits())
        self.database = database or Database.in_memory()
        self.problem: str | None = None
        self._is_open = is_open
        self._lock, self._save_lock = threading.RLock(), threading.Lock()
        self._loaded: dict[str, Conversation] = {}  # in the order of their last use
        self._unsaved: dict[str, Conversation] = {}
        self._has_deleted = False
        self._is_closed = threading.Event()
        self._saver: threading.Thread | None = None

    # One conversation

    def create(self, owner: str) -> Conversation:
        """A new, empty conversation; it is saved with its first question.

        Raises:
            Refused: the owner has too many.
        """
        conversation = Conversation(owner, on_change=self._note)
        with self._lock:
            empty = sum(1 for one in self._loaded.values() if one.owner == owner and one.is_empty)
            if self.database.num_conversations(owner) + empty >= self.limits.max_conversations_per_owner:
                self._drop_one(owner)
            self._keep_loaded(conversation)
        return conversation

    def find(self, owner: str, conversation_id: str) -> Conversation | None:
        """The owner's conversation; None if there is no such one or it is another owner's."""
        with self._lock:
            conversation = self._loaded.get(conversation_id)
            if conversation is None:
                return self._load(owner, conversation_id)
            if conversation.owner != owner:
                return None
            self._loaded[conversation_id] = self._loaded.pop(conversation_id)
            return conversation if self._renew(conversation) else None

    def latest(self, owner: str) -> Conversation | None:
        """The conversation that the owner used last, those in the trash left out."""
        with self._lock:
            own = (one for one in reversed(self._loaded.values()) if one.owner == owner)
            known = next((one for one in own if one.record.deleted is None), None)
            if known is not None:
                return known
            found = self.database.listing(owner, is_trash=False, limit=1)
            return self.find(owner, found[0].record.id) if found else None

    def branch(self, conversation: Conversation, message_id: str) -> Conversation:
        """A new conversation that begins with a copy of the branch up to a message.

        Raises:
            Refused: there is no such message, or no room.
        """
        path = conversation.path_to(message_id)
        if not path:
            raise Refused("nothing_to_repeat")
        self._check_room(conversation, sum(message.num_bytes for message in path))
        copies: list[StoredMessage] = []
        for message in path:
            parent_id = copies[-1].id if copies else None
            state = "interrupted" if message.state == "streaming" else message.state
            copies.append(replace(message, id=new_id(), parent_id=parent_id, state=state, reads_from=None))
        old = conversation.record
        record = ConversationRecord(new_id(), old.owner, old.title, settings=old.settings, head=copies[-1].id)
        record = replace(record, num_bytes=sum(message.num_bytes for message in copies))
        self.database.save(record, copies)
        found = self.find(old.owner, record.id)
        assert found is not None
        return found

    def check_question(self, conversation: Conversation, text: str, attachments: Sequence[Attachment] = ()) -> None:
        """Refuses a question that is empty or for which there is no room; makes room where others can go.

        Raises:
            Refused: with the limit that was met.
        """
        if not text.strip() and not attachments:
            raise Refused("empty")
        self.check_text(conversation, text, attachments)

    def check_text(self, conversation: Conversation, text: str, attachments: Sequence[Attachment] = ()) -> None:
        """Refuses a text, and files with it, for which there is no room.

        Raises:
            Refused: with the limit that was met.
        """
        if len(text.encode("utf-8", "surrogatepass")) > self.limits.max_message_bytes:
            raise Refused("too_long", self.limits.max_message_bytes)
        if conversation.num_bytes > self.limits.max_conversation_bytes:
            raise Refused("conversation_full", self.limits.max_conversation_bytes)
        files = sum(len(one.text.encode("utf-8", "surrogatepass")) for one in attachments)
        self._check_room(conversation, len(text) + files)

    # Many conversations

    def listing(self, owner: str, text: str = "", *, is_trash: bool = False, limit: int = 50) -> list[Found]:
        """The owner's conversations, or those in which all words of a text appear: pinned first, then last used."""
        if text.strip():
            return self.database.search(owner, text[:200], is_trash=is_trash, limit=limit)
        return self.database.listing(owner, is_trash=is_trash, limit=limit)

    def rename(self, conversation: Conversation, title: str) -> None:
        """Gives it a title of the user's; an empty one takes the first question's words again."""
        own = " ".join(title.split())[:_MAX_NAME_CHARS]
        path = conversation.path()
        conversation.note(title=own or (title_of_question(path[0]) if path else ""))
        self.save(conversation)

    def pin(self, conversation: Conversation, *, is_pinned: bool) -> None:
        """Puts it above the others, or back among them."""
        conversation.note(is_pinned=is_pinned)
        self.save(conversation)

    def put_into_trash(self, conversation: Conversation) -> None:
        """Takes it out of the list; it can be restored until the trash is emptied."""
        conversation.note(deleted=time.time())
        self.save(conversation)

    def restore(self, conversation: Conversation) -> None:
        """Takes it out of the trash again."""
        conversation.note(deleted=None)
        self.save(conversation)

    def empty_trash(self, owner: str) -> int:
        """Deletes for good what the owner has put into the trash; returns how many conversations that were."""
        found = self.database.listing(owner, is_trash=True, limit=self.limits.max_conversations_per_owner)
        for one in found:
            self._delete(owner, one.record.id)
        return len(found)

    def delete_everything(self, owner: str) -> None:
        """Deletes all that is kept of an owner, for good."""
        with self._lock, self._save_lock:
            for conversation in [one for one in self._loaded.values() if one.owner == owner]:
                conversation.let_go()
                self._forget(conversation.id)
            self.database.delete_owner(owner)
            self._has_deleted = True

    def trees(self, owner: str) -> Iterator[Tree]:
        """All of the owner's conversations that are not in the trash, in the order of the list, as they are saved."""
        self.save_all()
        for found in self.listing(owner, limit=self.limits.max_conversations_per_owner):
            yield found.record, self.database.messages(found.record.id)

    def take_in(self, owner: str, read: Callable[[], Iterable[Tree]]) -> list[str]:
        """Keeps conversations from elsewhere beside all others, or none of them; returns their ids.

        Args:
            read: called twice, to look at all of them before the first is kept. Their ids have to be new.

        Raises:
            Refused: there is no room; nothing makes room for them. Whatever `read` raises.
        """
        sizes = [record.num_bytes for record, _messages in read()]
        limits = self.limits
        if self.database.num_conversations(owner) + len(sizes) > limits.max_conversations_per_owner:
            raise Refused("too_many", limits.max_conversations_per_owner)
        if max(sizes, default=0) > 2 * limits.max_conversation_bytes:
            raise Refused("conversation_full", limits.max_conversation_bytes)
        is_over = self.database.num_bytes(owner) + sum(sizes) > limits.max_bytes_per_owner
        if is_over or self.database.num_bytes() + sum(sizes) > limits.max_bytes:
            raise Refused("history_full", limits.max_bytes_per_owner)
        kept: list[str] = []
        now = time.time()
        try:
            for record, messages in read():
                keeps_date = limits.keeps_days is None and len(sizes) > 1  # it could be deleted as unused at once
                used = min(record.used, now) if keeps_date else now
                kept.append(record.id)
                self.database.save(replace(record, owner=owner, used=used, deleted=None), messages)
        except BaseException:
            for conversation_id in kept:
                with contextlib.suppress(sqlite3.Error):
                    self.database.delete(owner, conversation_id)
            raise
        return kept

    # Settings with a name

    def presets(self, owner: str) -> dict[str, Settings]:
        """The owner's named settings."""
        return self.database.presets(owner)

    def save_preset(self, owner: str, name: str, settings: Settings | None) -> None:
        """Keeps settings under a name; None forgets it.

        Raises:
            Refused: there are too many, or the name is empty.
        """
        name = " ".join(name.split())[:_MAX_NAME_CHARS]
        if not name:
            raise Refused("empty")
        if settings is not None and len(self.presets(owner)) >= _MAX_PRESETS:
            raise Refused("too_many", _MAX_PRESETS)
        self.database.save_preset(owner, name, settings)

    # Saving

    def save(self, conversation: Conversation) -> bool:
        """Writes what has changed; False, and `problem`, if that could not be done: it is tried again later."""
        with self._save_lock:
            self._unsaved.pop(conversation.id, None)  # before looking: what changes from here on is noted again
            changes = conversation.unsaved()
            if changes is None:
                return True
            try:
                revision = self.database.save(changes.record, changes.messages)
            except sqlite3.Error as error:
                self._unsaved[conversation.id] = conversation
                if self.problem is None:
                    logger.warning("Conversations cannot be saved: %s", error)
                self.problem = str(error)
                return False
            conversation.mark_saved(changes, revision)
            self.problem = None
            return True

    def save_all(self) -> None:
        """Writes what has changed in all conversations."""
        for conversation in list(self._unsaved.values()):
            if not self.save(conversation):
                return

    def start_saving(self) -> None:
        """Saves growing answers from now on, and deletes what is too old, in a thread of its own."""
        self._saver = threading.Thread(target=self._keep_saving, name="saver", daemon=True)
        self._saver.start()

    def close(self) -> None:
        """Saves everything and closes the database."""
        self._is_closed.set()
        if self._saver is not None:
            self._saver.join(_SAVE_EVERY_S * 4)
        self.save_all()
        with contextlib.suppress(sqlite3.Error):
            self._overwrite_deleted()
        self.database.close()

    def _keep_saving(self) -> None:
        expires_at = 0.0
        while not self._is_closed.wait(_SAVE_EVERY_S):
            try:
                self.save_all()
                self._overwrite_deleted()
                if time.monotonic() >= expires_at:
                    expires_at = time.monotonic() + _EXPIRE_EVERY_S
                    self._expire()
            except Exception:  # the thread must live: without it answers are saved at their end only
                logger.exception("Saving conversations failed")

    def _expire(self) -> None:
        now, days = time.time(), self.limits.keeps_days
        unused_since = None if days is None else now - days * _DAY_S
        if self.database.expire(unused_since, now - self.limits.trash_days * _DAY_S):
            self._has_deleted = True

    def _overwrite_deleted(self) -> None:
        """Not while a user waits for a click, and once for all that was deleted in the meantime."""
        if self._has_deleted:
            self._has_deleted = False
            try:
                self.database.overwrite_deleted()
            except sqlite3.Error:
                self._has_deleted = True  # once the disk takes it
                raise

    def _note(self, conversation: Conversation) -> None:
        self._unsaved[conversation.id] = conversation

    def _load(self, owner: str, conversation_id: str) -> Conversation | None:
        record = self.database.find(owner, conversation_id)
        if record is None:
            return None
        messages = self.database.messages(conversation_id)
        record = with_known_heads(record, messages)
        conversation = Conversation(owner, record, messages, on_change=self._note)
        self._keep_loaded(conversation)
        return conversation

    def _renew(self, conversation: Conversation) -> bool:
        """Looks whether another process has written it; False if it is gone, deleted there or as too old."""
        known = conversation.record.revision
        if not known or conversation.id in self._unsaved:
            return True
        revision = self.database.revision(conversation.id)
        if not revision:
            conversation.let_go()
            self._forget(conversation.id)
            return False
        record = self.database.find(conversation.owner, conversation.id) if revision > known else None
        if record is not None:
            messages = self.database.messages(conversation.id)
            conversation.renew(with_known_heads(record, messages), messages)
        return True

    def _keep_loaded(self, conversation: Conversation) -> None:
        self._loaded[conversation.id] = conversation
        spare = len(self._loaded) - _MAX_LOADED
        for one in list(self._loaded.values()) if spare > 0 else ():
            is_fresh = one.is_empty and time.time() - one.record.created < _FRESH_S
            if one is not conversation and one.unsaved() is None and not is_fresh and not self._is_open(one.id):
                self._forget(one.id)
                spare -= 1
                if spare <= 0:
                    return

    def _delete(self, owner: str, conversation_id: str) -> None:
        with self._save_lock:
            if (loaded := self._loaded.get(conversation_id)) is not None:
                loaded.let_go()
            self._forget(conversation_id)
            self.database.delete(owner, conversation_id)
            self._has_deleted = True

    def _forget(self, conversation_id: str) -> None:
        self._loaded.pop(conversation_id, None)
        self._unsaved.pop(conversation_id, None)

    def _check_room(self, conversation: Conversation, num_bytes: int) -> None:
        limits, owner = self.limits, conversation.owner
        while self.database.num_bytes(owner) + num_bytes > limits.max_bytes_per_owner:
            self._drop_one(owner, conversation.id)
        while self.database.num_bytes() + num_bytes > limits.max_bytes:
            self._drop_one(None, conversation.id)

    def _drop_one(self, owner: str | None, kept: str = "") -> None:
        """Deletes the conversation that was used longest ago, if that is how room is made.

        Raises:
            Refused: it is not, or all are open.
        """
        if self.limits.drops_oldest:
            with self._lock:
                for whose, one in self.database.oldest():
                    if owner in (None, whose) and one != kept and not self._is_open(one):
                        self._delete(whose, one)
                        return
                for loaded in list(self._loaded.values()):
                    is_spare = loaded.is_empty and loaded.id != kept and not self._is_open(loaded.id)
                    if is_spare and owner in (None, loaded.owner):
                        self._forget(loaded.id)
                        return
        if kept:
            raise Refused("history_full", self.limits.max_bytes_per_owner)
        raise Refused("too_many", self.limits.max_conversations_per_owner)
