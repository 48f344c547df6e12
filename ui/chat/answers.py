"""The running answers: what begins one, where to find it, and how all of them end.

What comes in is a conversation and what is to be answered in it; what goes out is an `Answer` that runs. Each is saved
before it begins and when it has ended. It knows no screens: it is told who watches.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ui.chat.allowance import Allowance
from ui.chat.answer import Answer, ModelSource
from ui.chat.answer_watch import good_part
from ui.chat.attachment import Attachment
from ui.chat.conversation import Conversation
from ui.chat.message import StoredMessage
from ui.chat.pace import ReadingPace
from ui.chat.refusal import Refused
from ui.chat.settings import Settings

_PATIENCE_S = 2.0


class Answers:
    """The running answers, at most one for each conversation.

    Args:
        source: where the model will be.
        is_watched: whether somebody may still want an answer in this conversation.
        linger_s: seconds an answer goes on while nobody does.
        save: writes a conversation to the disk.
        allowance: what guests may use; without one nobody is a guest.

    Attributes:
        pace: how fast prompts have been read so far.
    """

    def __init__(
        self,
        source: ModelSource,
        is_watched: Callable[[Conversation], bool],
        linger_s: float,
        save: Callable[[Conversation], object] = lambda conversation: None,
        allowance: Allowance | None = None,
    ) -> None:
        self.pace = ReadingPace()
        self._source = source
        self._is_watched = is_watched
        self._linger_s = linger_s
        self._save = save
        self._allowance = allowance or Allowance()
        self._lock = threading.Lock()
        self._running: dict[str, Answer] = {}
        self._is_closed = False

    def ask(self, conversation: Conversation, text: str, attachments: Sequence[Attachment] = ()) -> Answer:
        """Adds a question and begins to answer it.

        Raises:
            Refused: the conversation's last answer is still being written, or the program is ending.
        """
        return self._answer(conversation, lambda: conversation.add_user(text, attachments).id)

    def edit(
        self,
        conversation: Conversation,
        message_id: str,
        text: str,
        attachments: Sequence[Attachment] | None = None,
    ) -> Answer | None:
        """Puts another wording beside a message; an edited question is answered, an edited answer stands.

        Args:
            attachments: the question's files; None keeps those that it had.

        Raises:
            Refused: as `ask` does, or there is no such message.
        """
        message = conversation.find(message_id)
        if message is None:
            raise Refused("nothing_to_repeat")
        if message.role == "user":
            return self._answer(conversation, lambda: conversation.edit(message_id, text, attachments).id)
        with self._lock:
            self._check(conversation)
            conversation.edit(message_id, text)
        self._save(conversation)
        return None

    def regenerate(self, conversation: Conversation, message_id: str) -> Answer:
        """Begins another answer beside one that has ended.

        Raises:
            Refused: as `ask` does, or there is no such answer.
        """
        _message, question_id = _repeatable(conversation, message_id)
        return self._answer(conversation, lambda: question_id)

    def resume(self, conversation: Conversation, message_id: str) -> Answer:
        """Lets an answer that was cut or stopped go on from its last token.

        Raises:
            Refused: as `ask` does, or the answer is not the last one or has been finished.
        """
        message = conversation.find(message_id)
        if message is None or not message.is_unfinished or conversation.record.head != message_id:
            raise Refused("nothing_to_continue")
        return self._start(conversation, lambda: conversation.resume_answer(message_id).id)

    def redo(self, conversation: Conversation, message_id: str, **changes: float) -> Answer:
        """Begins another answer beside one, from the last character that was good in it.

        Args:
            changes: sampling settings for this one answer.

        Raises:
            Refused: as `ask` does, or there is no such answer.
        """
        message, question_id = _repeatable(conversation, message_id)
        text, reasoning = good_part(message)
        settings = conversation.settings
        settings = replace(settings, sampling={**settings.sampling, **changes})
        return self._start(conversation, lambda: conversation.start_answer(question_id, text, reasoning).id, settings)

    def running(self, conversation_id: str) -> Answer | None:
        """The conversation's answer if it has not ended. It waits for nobody: event loops ask often."""
        return self._running.get(conversation_id)

    def stop(self, conversation_id: str) -> bool:
        """Ends the conversation's answer and waits for that; False if there is none. May be called at any time."""
        answer = self.running(conversation_id)
        if answer is None:
            return False
        answer.end_as("stopped")
        if not answer.wait(_PATIENCE_S):
            answer.give_up()
        return True

    def close(self, timeout_s: float) -> None:
        """Refuses new questions and ends every answer as interrupted, those that hang as well."""
        with self._lock:
            self._is_closed = True
        self.interrupt_all(timeout_s)

    def interrupt_guests(self, timeout_s: float) -> None:
        """Ends every answer of a guest as interrupted."""
        self.interrupt_all(timeout_s, lambda owner: self._allowance.guest_of(owner) is not None)

    def interrupt_all(self, timeout_s: float, is_meant: Callable[[str], bool] = lambda owner: True) -> None:
        """Ends every answer as interrupted, those that hang as well; or those of the owners that are meant."""
        with self._lock:
            running = [answer for answer in self._running.values() if is_meant(answer.conversation.owner)]
        for answer in running:
            answer.end_as("interrupted")
        deadline = time.monotonic() + timeout_s
        for answer in running:
            if not answer.wait(max(0.0, deadline - time.monotonic())):
                answer.give_up()

    def _answer(self, conversation: Conversation, find_question: Callable[[], str]) -> Answer:
        def begin() -> str:
            question_id = find_question()
            self._save(conversation)  # the question is on the disk before anything is generated
            return conversation.start_answer(question_id).id

        return self._start(conversation, begin)

    def _start(self, conversation: Conversation, begin: Callable[[], str], settings: Settings | None = None) -> Answer:
        with self._lock:
            self._check(conversation)
            asking = [answer.conversation.owner for answer in self._running.values()]
            self._allowance.check(self._allowance.guest_of(conversation.owner), asking)
            answer = Answer(
                self._source,
                conversation,
                begin(),
                is_watched=lambda: self._is_watched(conversation),
                linger_s=self._linger_s,
                on_end=self._forget,
                settings=settings,
            )
            self._running[conversation.id] = answer
        answer.start()
        return answer

    def _check(self, conversation: Conversation) -> None:
        if self._is_closed:
            raise Refused("closing")
        if conversation.id in self._running:
            raise Refused("still_answering")

    def _forget(self, answer: Answer) -> None:
        self._allowance.spend(self._allowance.guest_of(answer.conversation.owner), answer.num_tokens)
        message = answer.conversation.find(answer.message_id)
        if message is not None and message.usage is not None:
            self.pace.note(message.usage)
        self._save(answer.conversation)
        with self._lock:
            if self._running.get(answer.conversation.id) is answer:
                del self._running[answer.conversation.id]


def _repeatable(conversation: Conversation, message_id: str) -> tuple[StoredMessage, str]:
    """An answer and its question's id."""
    message = conversation.find(message_id)
    if message is None or message.role != "assistant" or message.parent_id is None:
        raise Refused("nothing_to_repeat")
    return message, message.parent_id
