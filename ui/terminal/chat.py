"""The chat in a terminal, and the answer to one question from a pipe.

What comes in is a model on its way and options; what goes out is the exit status. The model's text goes to standard
output, everything else to standard error, so that `echo "..." | python app.py chat > out.md` keeps the answer alone.
"""

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from model_loader.background_load import BackgroundLoad
from model_loader.chat_source import ChatSource
from model_loader.errors import InvalidSetting, ModelLoaderError
from ui.chat.answers import Answers
from ui.chat.conversation import Settings
from ui.chat.conversations import Conversations
from ui.chat.database import Database
from ui.chat.load_printer import LoadPrinter
from ui.chat.refusal import Refused
from ui.chat.store_limits import IN_MEMORY_LIMITS, StoreLimits
from ui.terminal.chat_talk import ChatTalk
from ui.terminal.commands import Commands, Outcome, is_command
from ui.terminal.follow import OutputLost, follow
from ui.terminal.notices import Notices
from ui.terminal.options import ChatOptions
from ui.terminal.prompt import EditingPrompt, LinePrompt, Prompt, keyboard_at_rest, raise_signal
from ui.terminal.refusals import words_of
from ui.terminal.render import is_dumb
from ui.terminal.safe_text import safe, storable
from ui.terminal.signals import Signals
from ui.terminal.talk import Running, Talk
from ui.terminal.text_talk import TextTalk

_LOAD_LOOK_S = 0.1
_ANSWERS_END_S = 3.0
_MAX_QUESTION_BYTES = 2**20
"""A model's window ends before; this only keeps a pipe from filling the memory."""
_INTERRUPTED, _PIPE_CLOSED = 130, 141
"""What a shell reports for SIGINT and SIGPIPE."""


class _Leaving(Exception):
    """The program ends with this status before anything was asked."""

    def __init__(self, status: int) -> None:
        self.status = status


def run_chat(load: BackgroundLoad, options: ChatOptions) -> int:
    """Chats until the user leaves, or answers what standard input holds if that is no terminal.

    Returns:
        The exit status.

    Raises:
        ModelLoaderError: there is no model, the history cannot be opened, or the one question cannot be answered.
    """
    _prepare_streams()
    notices = Notices(sys.stderr)
    with Signals() as signals:
        try:
            question = None if sys.stdin is not None and sys.stdin.isatty() else _piped_question(notices, signals)
            conversations = _open_conversations(options)
            try:
                load.start()
                chat_model = _wait_for_model(load, notices, signals)
                talk = _begin_talk(chat_model, load, conversations, options)
                return _Chat(talk, conversations, notices, signals).run(question)
            finally:
                conversations.close()
                load.close()
        except _Leaving as leaving:
            return leaving.status
        except KeyboardInterrupt:
            return _INTERRUPTED
        except OutputLost as lost:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
            if isinstance(lost.reason, BrokenPipeError):
                return _PIPE_CLOSED
            raise ModelLoaderError(f"Standard output cannot be written: {lost.reason.strerror}.") from None


class _Chat:
    """Questions and answers until the user leaves."""

    def __init__(self, talk: Talk, conversations: Conversations, notices: Notices, signals: Signals) -> None:
        self._talk = talk
        self._conversations = conversations
        self._notices = notices
        self._signals = signals
        self._draft: str | None = None  # the last question while the user changes it

    def run(self, question: str | None) -> int:
        """Answers a question, or those that the user asks; returns the exit status."""
        self._conversations.start_saving()
        try:
            return self._converse() if question is None else self._answer_one(question)
        finally:
            self._talk.close(_ANSWERS_END_S)

    def _answer_one(self, question: str) -> int:
        try:
            running = self._talk.ask(question)
        except Refused as refused:
            raise InvalidSetting(words_of(refused)) from None
        ending = follow(running, self._talk, self._notices, self._signals, sys.stdout, tells_failure=False)
        if ending.error:
            raise ModelLoaderError(safe(ending.error))
        if ending.state == "failed":
            return 1
        return _INTERRUPTED if ending.state == "stopped" else 0

    def _converse(self) -> int:
        self._greet()
        talk = self._talk
        prompt, asking = self._prompt(()), self._prompt(())
        if isinstance(talk, ChatTalk):
            prompt = self._prompt(talk.earlier_questions())
        commands = Commands(talk, self._notices, lambda what: _is_confirmed(asking, what))
        is_leaving = False
        with keyboard_at_rest(as_editor=True) if isinstance(prompt, EditingPrompt) else contextlib.nullcontext():
            while not self._signals.must_end:
                try:
                    entry = prompt.ask(talk.label, self._draft or "")
                except EOFError:
                    return 0
                except KeyboardInterrupt:
                    if is_leaving:
                        return 0
                    is_leaving, self._draft = True, None
                    self._notices.say("Ctrl-C once more, or Ctrl-D, leaves.")
                    continue
                is_leaving = False
                outcome = commands.run(entry) if is_command(entry) else Outcome(self._ask(entry))
                self._draft = outcome.draft
                if outcome.leaves:
                    return 0
                if outcome.running is not None:
                    self._show(outcome.running)
        return 0

    def _ask(self, entry: str) -> Running | None:
        try:
            return self._talk.ask(entry) if self._draft is None else self._talk.revise(entry)
        except (ModelLoaderError, Refused, sqlite3.Error) as error:
            self._notices.warn(words_of(error))
            return None

    def _show(self, running: Running) -> None:
        follow(running, self._talk, self._notices, self._signals, sys.stdout)
        self._notices.say("")
        if (problem := self._conversations.problem) is not None:
            self._notices.warn(f"The conversation cannot be saved ({problem}); it is tried again.")

    def _prompt(self, earlier: Sequence[str]) -> Prompt:
        """On standard error, so that standard output holds answers alone, wherever that is a terminal."""
        terminal = next((stream for stream in (sys.stderr, sys.stdout) if stream.isatty()), None)
        if terminal is None or is_dumb():
            return LinePrompt(sys.stderr, self._signals)
        return EditingPrompt(terminal, self._signals, earlier)

    def _greet(self) -> None:
        database = self._conversations.database
        if database.set_aside is not None:
            self._notices.warn(f"The file of the conversations is damaged; it was set aside as {database.set_aside}")
        if isinstance(self._talk, ChatTalk):
            place = "in memory and end with this program" if database.place is None else f"in {database.place}"
            self._notices.say(f"Conversations are kept {place}.")
        else:
            self._notices.say(
                "This is a base model: it continues texts. Enter alone goes on with the text that there is."
            )
        self._notices.say(":help lists the commands, Ctrl-D leaves.\n")


def _begin_talk(
    chat_model: ChatSource, load: BackgroundLoad, conversations: Conversations, options: ChatOptions
) -> Talk:
    """
    Raises:
        InvalidSetting: a system prompt is given to a base model.
    """
    settings = Settings(options.system, {"seed": options.seed})
    if chat_model.is_completion_model:
        if options.system is not None:
            raise InvalidSetting(
                f"--system is given, but {chat_model.name} is a base model and has none. Leave it out."
            )
        return TextTalk(chat_model, settings)
    answers = Answers(load, lambda _one: True, linger_s=0.0, save=conversations.save)
    return ChatTalk(chat_model, conversations, answers, settings)


def _is_confirmed(prompt: Prompt, what: str) -> bool:
    try:
        return prompt.ask(f"{what} [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        return False


def _wait_for_model(load: BackgroundLoad, notices: Notices, signals: Signals) -> ChatSource:
    lines: list[str] = []
    printer = LoadPrinter(load, lines.append)
    while load.chat_model is None and load.error is None:
        if signals.is_interrupted or signals.must_end:
            notices.clear_status()
            raise _Leaving(_INTERRUPTED if signals.is_interrupted else 0)
        printer.poll()
        notices.status(lines[-1] if lines else "")
        time.sleep(_LOAD_LOOK_S)
    notices.clear_status()
    if load.chat_model is None:
        raise ModelLoaderError(safe(load.error or ""))
    lines.clear()
    printer.poll()
    for line in lines:
        notices.say(line)
    return load.chat_model


def _open_conversations(options: ChatOptions) -> Conversations:
    """The store that the page uses as well; its limits are those of a user of this machine.

    Raises:
        InvalidSetting: its file cannot be used.
    """
    if options.history is None:
        return Conversations(_never_open, replace(IN_MEMORY_LIMITS, max_message_bytes=_MAX_QUESTION_BYTES))
    limits = StoreLimits(max_message_bytes=_MAX_QUESTION_BYTES)
    return Conversations(_never_open, limits, Database(options.history))


def _piped_question(notices: Notices, signals: Signals) -> str:
    """All of standard input.

    Raises:
        InvalidSetting: it is empty or far too long.
    """
    try:
        with signals.waking(raise_signal):
            data = b"" if sys.stdin is None else sys.stdin.buffer.read(_MAX_QUESTION_BYTES + 1)
    except KeyboardInterrupt:
        raise _Leaving(_INTERRUPTED) from None
    except EOFError:
        raise _Leaving(0) from None
    if len(data) > _MAX_QUESTION_BYTES:
        raise InvalidSetting(f"Standard input holds more than {_MAX_QUESTION_BYTES:,} bytes; shorten the question.")
    text = data.decode("utf-8-sig", "replace").removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise InvalidSetting('Standard input holds no question. Give one: echo "Hello" | python app.py chat')
    if "\ufffd" in text and "\ufffd".encode() not in data:
        notices.warn("The question is not in UTF-8; what cannot be read of it is marked.")
    return storable(text)


def _prepare_streams() -> None:
    """Whatever the locale: no character ends the program. A window of no size is none."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by who started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, as long as the program
        elif hasattr(stream, "reconfigure"):
            # On Windows a file gets the code page's characters otherwise, and most of Chinese is lost.
            is_windows_file = os.name == "nt" and not stream.isatty()
            stream.reconfigure(errors="replace", **({"encoding": "utf-8"} if is_windows_file else {}))
    for variable in ("COLUMNS", "LINES"):
        value = os.environ.get(variable, "1")
        if not value.isdecimal() or int(value) == 0:
            del os.environ[variable]


def _never_open(_conversation_id: str) -> bool:
    """Nobody's screen but ours shows them, and what we hold stays whole when the store lets go of it."""
    return False
