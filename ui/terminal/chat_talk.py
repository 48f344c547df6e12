"""A conversation with a chat model, kept where the page keeps its own.

What comes in are questions and what commands ask for; what goes out is a `Running` answer, or why there is none. It
writes to no terminal.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from model_loader.chat_format.messages import Message
from model_loader.chat_source import ChatSource
from ui.chat.answer import Answer, AnswerStatus, as_prompt, effective_system
from ui.chat.answers import Answers
from ui.chat.attachment import Attachment
from ui.chat.conversation import Conversation, Settings
from ui.chat.conversations import Conversations
from ui.chat.database import Found
from ui.chat.drafts import Drafts
from ui.chat.message import StoredMessage
from ui.chat.refusal import Refused
from ui.terminal.talk import Ending, Running, moved_seed

OWNER = "terminal"
"""Whose the conversations are: one user of this machine. No browser can claim it, because the page takes nothing but
32 hexadecimal digits for an owner, so it needs not be secret."""
_RECALLED_CONVERSATIONS = 30
_DRAFT = "the next question"


class RunningAnswer:
    """An answer in a conversation."""

    def __init__(self, answers: Answers, answer: Answer) -> None:
        self._answers = answers
        self._answer = answer

    @property
    def text(self) -> str:
        """As `Running` says, and likewise below."""
        return self._message.text

    @property
    def reasoning(self) -> str:
        """What the model thought before."""
        return self._message.reasoning

    @property
    def status(self) -> str:
        """Its place in the queue, or how much of the prompt has been read."""
        match self._answer.status:
            case AnswerStatus(phase="queued", ahead=ahead):
                return f"Place {ahead} in the queue"
            case AnswerStatus(phase="reading", tokens_read=tokens_read, tokens=tokens) if tokens:
                return f"Reading: {tokens_read:,} of {tokens:,} tokens"
            case AnswerStatus(phase="reading"):
                return "Reading"
        return ""

    @property
    def ending(self) -> Ending:
        """How it ended."""
        one = self._message
        return Ending(one.state, one.usage, one.finish_reason, one.left_out, one.error, one.fault_id)

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended."""
        return self._answer.wait(timeout_s)

    def stop(self) -> None:
        """Ends it."""
        self._answers.stop(self._answer.conversation.id)

    @property
    def _message(self) -> StoredMessage:
        message = self._answer.conversation.find(self._answer.message_id)
        assert message is not None
        return message


class ChatTalk:
    """One conversation after another with a chat model.

    Args:
        chat_model: the model.
        conversations, answers: where conversations are kept, and what answers in them.
        settings: those of the first conversation.

    Attributes:
        conversation: the one that goes on now.
    """

    label = "User> "
    is_markdown = True

    def __init__(
        self, chat_model: ChatSource, conversations: Conversations, answers: Answers, settings: Settings
    ) -> None:
        self.chat_model = chat_model
        self.conversations = conversations
        self._answers = answers
        self._drafts = Drafts()
        self.conversation = self._begin(settings)

    @property
    def settings(self) -> Settings:
        """How answers are made."""
        return self.conversation.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self.conversation.settings = settings
        self.conversations.save(self.conversation)

    def ask(self, text: str) -> Running:
        """As `Talk` says. Raises `Refused`: it is empty, or there is no room for it."""
        text, files = _question(text), self.attached()
        self.conversations.check_question(self.conversation, text, files)
        running = RunningAnswer(self._answers, self._answers.ask(self.conversation, text, files))
        self.detach()
        return running

    def attach(self, attachment: Attachment) -> None:
        """Sends a file along with the next question. Raises `FileRefused`: there are enough."""
        self._drafts.add(OWNER, _DRAFT, attachment)

    def attached(self) -> tuple[Attachment, ...]:
        """The files of the next question."""
        return self._drafts.attachments(OWNER, _DRAFT)

    def detach(self) -> None:
        """Takes them out again."""
        self._drafts.bring_back(OWNER, _DRAFT, is_sent=True)

    def regenerate(self) -> Running:
        """Likewise. Raises `Refused`: nothing has been answered."""
        path = self.conversation.path()
        if not path or path[-1].role != "assistant":
            raise Refused("nothing_to_repeat")
        with self._seed_moved_by(len(self.conversation.siblings(path[-1].id))):
            return RunningAnswer(self._answers, self._answers.regenerate(self.conversation, path[-1].id))

    def undo(self) -> str:
        """Likewise. Raises `Refused`: nothing has been asked."""
        question = self._last_question()
        self.conversation.put_away(question.parent_id)
        self.conversations.save(self.conversation)
        return question.text

    def last_question(self) -> str:
        """Likewise. Raises `Refused`: nothing has been asked."""
        return self._last_question().text

    def revise(self, text: str) -> Running:
        """Likewise. Raises `Refused`: as `ask` and `last_question` do."""
        text = _question(text)
        self.conversations.check_question(self.conversation, text)
        answer = self._answers.edit(self.conversation, self._last_question().id, text)
        assert answer is not None
        return RunningAnswer(self._answers, answer)

    def clear(self) -> None:
        """Likewise; the settings stay. Raises `Refused`: there are too many conversations."""
        if not self.conversation.is_empty:
            self.conversation = self._begin(self.settings)

    def turns(self) -> Sequence[tuple[str, str]]:
        """As `Talk` says; of files their names alone."""
        return self._turns(
            lambda one: "\n".join([*(f"[{each.name}, {each.size}]" for each in one.attachments), one.text])
        )

    def whole_turns(self) -> Sequence[tuple[str, str]]:
        """The same with the texts of files."""
        return self._turns(lambda one: one.content)

    def _turns(self, text_of: Callable[[StoredMessage], str]) -> Sequence[tuple[str, str]]:
        turns, number = [], 0
        for message in self.conversation.path():
            number += message.role == "user"
            turns.append((f"{'User' if message.role == 'user' else 'Qwen'}[{number}]", text_of(message)))
        return turns

    def last_answer(self) -> str:
        """As `Talk` says."""
        return next((one.text for one in reversed(self.conversation.path()) if one.role == "assistant"), "")

    def cost(self) -> str:
        """As `Talk` says. Raises `ContextLengthExceeded`: the last turn alone is too long."""
        messages = [*as_prompt(self.system(), self.conversation.path()), Message("user", "")]
        sampling = self.chat_model.default_sampling.changed(**self.settings.sampling)
        cost = self.chat_model.measure(messages, sampling, owner=self.conversation.id)
        said = f"With an empty question the prompt takes {cost.tokens:,} of {cost.max_tokens:,} tokens"
        if cost.cached_tokens:
            said += f", of which {cost.cached_tokens:,} are known and not read again"
        if cost.left_out:
            said += f"; the oldest {cost.left_out} messages have no room"
        return f"{said}. An answer may have {sampling.max_new_tokens:,}."

    def close(self, timeout_s: float) -> None:
        """As `Talk` says."""
        self._answers.close(timeout_s)

    @property
    def title(self) -> str:
        """The conversation's title; "" until there is a question."""
        return self.conversation.record.title

    def messages(self) -> tuple[StoredMessage, ...]:
        """The branch that goes on."""
        return self.conversation.path()

    def system(self) -> str:
        """The system prompt that is sent; "" if none is."""
        return effective_system(self.chat_model, self.settings.system)

    def set_system(self, text: str | None) -> None:
        """Another system prompt from the next answer on; None takes the model's own."""
        self.settings = replace(self.settings, system=text)

    def stored(self, text: str = "", *, is_trash: bool = False) -> list[Found]:
        """The conversations that are kept, or those with all words of a text, or the trash: last used first."""
        return self.conversations.listing(OWNER, text, is_trash=is_trash, limit=20)

    def delete(self, conversation_id: str) -> str:
        """Puts a conversation into the trash, the one that goes on as well; returns its title.

        Raises `Refused`: it is not kept.
        """
        found = self._find(conversation_id)
        self.conversations.put_into_trash(found)
        if found is self.conversation:
            self.conversation = self._begin(self.settings)
        return found.record.title

    def restore(self, conversation_id: str) -> str:
        """Takes a conversation out of the trash; returns its title. Raises `Refused`: it is not there."""
        found = self._find(conversation_id, is_trash=True)
        self.conversations.restore(found)
        return found.record.title

    def open(self, conversation_id: str) -> None:
        """Goes on with a conversation that is kept. Raises `Refused`: it is not."""
        found = self._find(conversation_id)
        seed = self.settings.sampling.get("seed")
        self.conversation = found
        if "seed" not in found.settings.sampling and seed is not None:
            self.settings = replace(found.settings, sampling={**found.settings.sampling, "seed": seed})

    def take_over(self, title: str, settings: Settings, messages: Sequence[StoredMessage]) -> None:
        """Goes on with a conversation from elsewhere, kept beside the others. Raises `Refused`: there is no room."""
        conversation = self.conversations.create(OWNER)
        for message in messages:
            self.conversations.check_text(conversation, message.text + message.reasoning, message.attachments)
        conversation.settings = settings
        for message in messages:
            if message.role == "user":
                last = conversation.add_user(message.text, message.attachments)
            else:
                last = conversation.start_answer(last.id)
                conversation.grow(last.id, message.text, message.reasoning)
                conversation.amend(last.id, state=message.state)
        self.conversations.rename(conversation, title)
        self.conversation = conversation

    def earlier_questions(self) -> list[str]:
        """What was asked lately, oldest first, for the prompt's memory."""
        asked: list[StoredMessage] = []
        for found in self.conversations.database.listing(OWNER, is_trash=False, limit=_RECALLED_CONVERSATIONS):
            messages = self.conversations.database.messages(found.record.id)
            asked += [message for message in messages if message.role == "user"]
        return [message.text for message in sorted(asked, key=lambda one: one.created)]

    def _find(self, conversation_id: str, *, is_trash: bool = False) -> Conversation:
        found = self.conversations.find(OWNER, conversation_id)
        if found is None or (found.record.deleted is not None) != is_trash:
            raise Refused("no_conversation")
        return found

    def _begin(self, settings: Settings) -> Conversation:
        conversation = self.conversations.create(OWNER)
        conversation.settings = settings
        return conversation

    def _last_question(self) -> StoredMessage:
        question = next((one for one in reversed(self.conversation.path()) if one.role == "user"), None)
        if question is None:
            raise Refused("nothing_to_repeat")
        return question

    @contextlib.contextmanager
    def _seed_moved_by(self, steps: int) -> Iterator[None]:
        """The same seed would give the same answer again; an answer copies its settings when it begins."""
        settings = self.conversation.settings
        self.conversation.settings = moved_seed(settings, steps)
        try:
            yield
        finally:
            self.conversation.settings = settings


def _question(entry: str) -> str:
    """Without the space that keeps a leading colon from being a command, and without what ends the entry."""
    return entry.strip() if entry.lstrip().startswith(":") else entry.rstrip()
