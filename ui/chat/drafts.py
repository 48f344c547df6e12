"""Files that are attached to a question which has not been sent: what stands in a composer.

What comes in are attachments, or why a file was refused; what goes out is what a composer shows and, when the question
is sent, the files that go with it. A draft is found by its owner and an id that the composer made up; it lives in
memory, and those that were not used for long give way. All methods may be called from any thread.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ui.chat.attachment import MAX_CHARS, MAX_FILES, Attachment
from ui.chat.message import new_id
from ui.chat.refusal import FileRefused

_MAX_DRAFTS = 64
_MAX_DRAFTS_PER_OWNER = 8
_MAX_REFUSALS = 2 * MAX_FILES


@dataclass(frozen=True, slots=True)
class DraftFile:
    """A file in a draft; its id is gone when it is sent or removed."""

    attachment: Attachment
    id: str = field(default_factory=new_id)


@dataclass(slots=True)
class _Draft:
    files: tuple[DraftFile, ...] = ()
    refusals: list[FileRefused] = field(default_factory=list)
    aside: tuple[DraftFile, ...] | None = None


class Drafts:
    """All drafts with files."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drafts: OrderedDict[tuple[str, str], _Draft] = OrderedDict()

    def files(self, owner: str, draft_id: str) -> tuple[DraftFile, ...]:
        """The files of a draft, in the order in which they came."""
        with self._lock:
            draft = self._drafts.get((owner, draft_id))
            return draft.files if draft is not None else ()

    def attachments(self, owner: str, draft_id: str) -> tuple[Attachment, ...]:
        """The same without their ids."""
        return tuple(one.attachment for one in self.files(owner, draft_id))

    def check_room(self, owner: str, draft_id: str, name: str) -> None:
        """Refuses one file more than a message may have, before anybody reads it.

        Raises:
            FileRefused: there are enough.
        """
        if len(self.files(owner, draft_id)) >= MAX_FILES:
            raise FileRefused("too_many", name, limit=f"{MAX_FILES}")

    def add(self, owner: str, draft_id: str, attachment: Attachment) -> None:
        """Adds a file.

        Raises:
            FileRefused: there are enough, or they would be too long together.
        """
        self.check_room(owner, draft_id, attachment.name)
        with self._lock:
            draft = self._find(owner, draft_id)
            num_chars = sum(len(one.attachment.text) for one in draft.files) + len(attachment.text)
            if num_chars > MAX_CHARS:
                raise FileRefused("too_long", attachment.name, found=f"{num_chars:,}", limit=f"{MAX_CHARS:,}")
            draft.files = (*draft.files, DraftFile(attachment))

    def put_before(self, owner: str, draft_id: str, attachments: Sequence[Attachment]) -> None:
        """These files are in the draft, and after them what else was there, as far as there is room."""
        with self._lock:
            draft = self._find(owner, draft_id)
            added = tuple(map(DraftFile, attachments))
            others = [one for one in draft.files if one.attachment not in attachments]
            draft.files = (*added, *others)[:MAX_FILES]
            for one in (*added, *others)[MAX_FILES:]:
                self._refuse(draft, FileRefused("too_many", one.attachment.name, limit=f"{MAX_FILES}"))
            self._tidy(owner, draft_id)

    def set_aside(self, owner: str, draft_id: str, attachments: Iterable[Attachment]) -> None:
        """These files are in the draft while an earlier question is edited; what was there waits for that to end."""
        with self._lock:
            draft = self._find(owner, draft_id)
            draft.aside = draft.files if draft.aside is None else draft.aside
            draft.files = tuple(map(DraftFile, attachments))

    def bring_back(self, owner: str, draft_id: str, *, is_sent: bool = False) -> None:
        """What was set aside is in the draft again; if nothing was, it stays as it is, or is empty once it is sent."""
        with self._lock:
            draft = self._find(owner, draft_id)
            if draft.aside is not None or is_sent:
                draft.files, draft.aside = draft.aside or (), None
            self._tidy(owner, draft_id)

    def remove(self, owner: str, draft_id: str, file_id: str) -> None:
        """Takes a file out; does nothing if it is not there."""
        with self._lock:
            draft = self._find(owner, draft_id)
            draft.files = tuple(one for one in draft.files if one.id != file_id)
            self._tidy(owner, draft_id)

    def refuse(self, owner: str, draft_id: str, refused: FileRefused) -> None:
        """Remembers why a file is not there, until the composer has been told."""
        with self._lock:
            self._refuse(self._find(owner, draft_id), refused)

    def take_refusals(self, owner: str, draft_id: str) -> list[FileRefused]:
        """What has been refused since this was asked last."""
        with self._lock:
            draft = self._drafts.get((owner, draft_id))
            if draft is None:
                return []
            told, draft.refusals = draft.refusals, []
            self._tidy(owner, draft_id)
            return told

    def forget(self, owner: str) -> None:
        """Everything of this owner goes."""
        with self._lock:
            for key in [key for key in self._drafts if key[0] == owner]:
                del self._drafts[key]

    def _find(self, owner: str, draft_id: str) -> _Draft:
        """The draft, made if it is not there; those of the same owner make room for it first."""
        key = (owner, draft_id)
        draft = self._drafts[key] = self._drafts.pop(key, _Draft())
        own = [one for one in self._drafts if one[0] == owner]
        for one in [*own[:-_MAX_DRAFTS_PER_OWNER], *list(self._drafts)[:-_MAX_DRAFTS]]:
            self._drafts.pop(one, None)
        return draft

    @staticmethod
    def _refuse(draft: _Draft, refused: FileRefused) -> None:
        draft.refusals.append(refused)
        del draft.refusals[:-_MAX_REFUSALS]

    def _tidy(self, owner: str, draft_id: str) -> None:
        draft = self._drafts[(owner, draft_id)]
        if not draft.files and not draft.refusals and draft.aside is None:
            del self._drafts[(owner, draft_id)]
