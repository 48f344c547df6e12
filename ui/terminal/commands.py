"""What an entry that begins with a colon does: the commands of the demo of 2023, made to work, and some more.

What comes in is such an entry; what goes out is an `Outcome`, and notices on the way. Nothing that begins with a
colon is ever sent to the model.
"""

import difflib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_loader.errors import ModelLoaderError
from ui.chat.attachment import MAX_FILE_BYTES
from ui.chat.database import Found
from ui.chat.extraction import read_attachment
from ui.chat.refusal import FileRefused, Refused
from ui.terminal.chat_talk import ChatTalk
from ui.terminal.clipboard import copy_sequence
from ui.terminal.conf import changed_settings, model_settings, read_changes, read_value, setting_lines
from ui.terminal.notices import Notices
from ui.terminal.refusals import words_of
from ui.terminal.safe_text import safe_line
from ui.terminal.talk import Running, Talk
from ui.terminal.transcript import (
    TranscriptError,
    as_json,
    as_markdown,
    path_of,
    read_bytes,
    read_transcript,
    write_file,
)

_MARK = ":"


class CommandError(Exception):
    """A command cannot be carried out; `str()` says why and may be shown."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows from a command.

    Attributes:
        running: an answer to show.
        draft: what the next entry begins with, to take the place of the last question.
        leaves: whether the chat is over.
    """

    running: Running | None = None
    draft: str | None = None
    leaves: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        names: with their colons, the shortest last.
        argument: what may follow it, as the help shows it; "" for nothing.
    """

    names: tuple[str, ...]
    argument: str
    help: str
    run: Callable[["Commands", str], Outcome | None]


class Commands:
    """Carries commands out.

    Args:
        talk: what they change.
        notices: where they say what they did.
        confirm: asks the user a question that is answered with yes or no.
    """

    def __init__(self, talk: Talk, notices: Notices, confirm: Callable[[str], bool]) -> None:
        self._talk = talk
        self._notices = notices
        self._confirm = confirm
        self._listed: list[Found] = []
        self._in_trash: list[Found] = []

    def run(self, entry: str) -> Outcome:
        """Does what the entry says, or says why not."""
        name, _space, argument = entry.partition(" ")
        if "\n" in name:
            name, _break, argument = entry.partition("\n")
        argument = argument.strip()
        command = _BY_NAME.get(name)
        try:
            if command is None:
                raise CommandError(_unknown(name))
            if argument and not command.argument:
                raise CommandError(f"{name} takes nothing after it.")
            return command.run(self, argument) or Outcome()
        except (CommandError, TranscriptError, ModelLoaderError, Refused, FileRefused, sqlite3.Error) as error:
            self._notices.warn(words_of(error))
            return Outcome()

    def help(self, _argument: str) -> None:
        """Lists the commands."""
        for command in COMMANDS:
            names = " ".join(command.names) + (f" {command.argument}" if command.argument else "")
            self._notices.show(f"{names:<32}{command.help}")
        self._notices.show(
            "\nEnter sends, Alt+Enter or Esc Enter begins a new line. Ctrl-C stops an answer and keeps what is there. "
            "A question that begins with a colon needs a space before it."
        )

    def leave(self, _argument: str) -> Outcome:
        """Ends the chat."""
        return Outcome(leaves=True)

    def clear_screen(self, _argument: str) -> None:
        """Empties the window."""
        if not self._notices.clear_screen():
            raise CommandError("This terminal cannot be cleared.")

    def clear_history(self, _argument: str) -> None:
        """Begins anew."""
        self._talk.clear()
        kept = " The one before is kept; :open lists it." if isinstance(self._talk, ChatTalk) else ""
        self._notices.say(f"A new conversation begins.{kept}")

    def history(self, _argument: str) -> None:
        """Shows what has been said."""
        turns = self._talk.turns()
        if not turns:
            raise CommandError("Nothing has been said yet.")
        for who, text in turns:
            self._notices.rule(who)
            self._notices.show(text)
        self._notices.rule("")

    def seed(self, argument: str) -> None:
        """Shows or sets the seed."""
        if argument:
            self._change({"seed": read_value("seed", argument)})
        seed = self._talk.settings.sampling.get("seed")
        self._notices.show("Every answer draws a fresh seed." if seed is None else f"The seed is {seed}.")

    def conf(self, argument: str) -> None:
        """Shows or changes the settings."""
        if argument:
            self._change(read_changes(argument))
        defaults = self._talk.chat_model.default_sampling
        for line in setting_lines(self._talk.settings, defaults):
            self._notices.show(line)

    def reset_conf(self, _argument: str) -> None:
        """Takes the model's own settings."""
        self._talk.settings = model_settings(self._talk.settings)
        self._notices.say("The settings are the model's own again; seed and system prompt stay.")

    def regenerate(self, _argument: str) -> Outcome:
        """Another answer."""
        sampling = self._talk.chat_model.default_sampling.changed(**self._talk.settings.sampling)
        if sampling.temperature == 0:
            self._notices.say("temperature is 0, so the answer will be the same; try :conf temperature=0.7")
        return Outcome(self._talk.regenerate())

    def undo(self, _argument: str) -> None:
        """Takes the last turn back."""
        self._notices.say(f"Taken back: {safe_line(self._talk.undo(), 80)}")

    def edit(self, _argument: str) -> Outcome:
        """The last question again."""
        return Outcome(draft=self._talk.last_question())

    def system(self, argument: str) -> None:
        """Shows or sets the system prompt."""
        talk = self._chat("has no system prompt")
        if argument:
            text = {'""': "", "''": "", "default": None}.get(argument, argument)
            talk.set_system(text)
        system = talk.system()
        self._notices.show(f"The system prompt is: {system}" if system.strip() else "No system prompt is sent.")

    def save(self, argument: str) -> None:
        """Writes the conversation to a file."""
        path, turns = path_of(argument), self._talk.turns()
        if not turns:
            raise CommandError("Nothing has been said yet.")
        if path.suffix.lower() == ".json":
            talk = self._chat("has nothing that JSON would keep; give a .md or .txt file")
            text = as_json(talk.title, talk.settings, talk.messages())
        elif isinstance(self._talk, ChatTalk):
            text = as_markdown(self._talk.title, self._talk.whole_turns())
        else:
            text = turns[0][1]
        if os.path.exists(path) and not self._confirm(f"{safe_line(str(path))} exists. Replace it?"):
            raise CommandError("Nothing was saved.")
        write_file(path, text)
        self._notices.say(f"Saved as {safe_line(str(path))}")

    def load(self, argument: str) -> None:
        """Goes on with a conversation from a file."""
        talk = self._chat("keeps no conversations")
        found = read_transcript(path_of(argument), talk.chat_model.default_sampling)
        talk.take_over(found.title, found.settings, found.messages)
        self._notices.say(f"Loaded {len(found.messages)} messages as a new conversation; the one before is kept.")
        self._show_last_turn()

    def attach(self, argument: str) -> None:
        """Sends files along with the next question, lists them, or takes them out."""
        talk = self._chat("takes no files; pipe the text instead")
        if argument == "none":
            talk.detach()
        elif argument:
            path = path_of(argument)
            talk.attach(read_attachment(path.name, read_bytes(path, MAX_FILE_BYTES)))
        for one in talk.attached():
            self._notices.show(f"{safe_line(one.name)}  {one.size}, {len(one.text):,} characters")
        goes = "These go with the next question; :attach none takes them out."
        self._notices.say(goes if talk.attached() else "No file goes with the next question.")

    def tokens(self, _argument: str) -> None:
        """What the conversation takes."""
        self._notices.show(self._talk.cost())

    def copy(self, _argument: str) -> None:
        """The last answer into the clipboard."""
        text = self._talk.last_answer()
        if not text:
            raise CommandError("There is no answer yet.")
        sequence = copy_sequence(text)
        if sequence is None:
            raise CommandError("The answer is too long for the clipboard of a terminal; use :save FILE.")
        if not self._notices.send(sequence):
            raise CommandError("This terminal cannot copy; use :save FILE.")
        self._notices.say(
            f"Copied {len(text):,} character{'s' * (len(text) != 1)}, if the terminal lets programs copy."
        )

    def open(self, argument: str) -> None:
        """Lists conversations, or goes on with one."""
        talk = self._chat("keeps no conversations")
        if argument.isdecimal():
            talk.open(_chosen(argument, self._listed or talk.stored(), ":open").record.id)
            title = talk.title or "Without a title"
            self._notices.say(f"{title}: {len(talk.messages())} messages; :history shows them.")
            self._show_last_turn()
            return
        self._listed = talk.stored(argument)
        if not self._listed:
            raise CommandError("No conversation has these words." if argument else "No conversation is kept yet.")
        self._list(self._listed)
        self._notices.say(":open and a number goes on with one; :open and words looks for them.")

    def delete(self, argument: str) -> None:
        """Puts a conversation into the trash."""
        talk = self._chat("keeps no conversations")
        if not argument.isdecimal():
            raise CommandError("Give the number that :open shows, as in :delete 2")
        self._listed = self._listed or talk.stored()  # the numbers on screen stay
        title = talk.delete(_chosen(argument, self._listed, ":open").record.id)
        self._in_trash = []
        days = talk.conversations.limits.trash_days
        self._notices.say(
            f"{safe_line(title, 60) or 'Without a title'} is in the trash for {days:g} days; :restore brings it back."
        )

    def restore(self, argument: str) -> None:
        """Lists the trash, or takes a conversation out of it."""
        talk = self._chat("keeps no conversations")
        if argument and not argument.isdecimal():
            raise CommandError("Give the number that :restore shows, as in :restore 1")
        self._in_trash = self._in_trash or talk.stored(is_trash=True)
        if not self._in_trash:
            raise CommandError("The trash is empty.")
        if not argument:
            self._list(self._in_trash)
            self._notices.say(":restore and a number takes one out of the trash.")
            return
        title = talk.restore(_chosen(argument, self._in_trash, ":restore").record.id)
        self._listed, self._in_trash = [], []
        self._notices.say(f"{safe_line(title, 60) or 'Without a title'} is back; :open lists it.")

    def _list(self, listed: Sequence[Found]) -> None:
        for number, found in enumerate(listed, start=1):
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.record.used))
            self._notices.show(f"{number:>3}  {used}  {safe_line(found.record.title, 60) or 'Without a title'}")

    def _show_last_turn(self) -> None:
        for who, text in self._talk.turns()[-2:]:
            self._notices.rule(who)
            self._notices.show(text)
        self._notices.rule("")

    def _change(self, changes: Mapping[str, Any]) -> None:
        talk = self._talk
        talk.settings = changed_settings(talk.settings, changes, talk.chat_model.default_sampling)

    def _chat(self, why: str) -> ChatTalk:
        if not isinstance(self._talk, ChatTalk):
            raise CommandError(f"A base model {why}.")
        return self._talk


def is_command(entry: str) -> bool:
    """Whether an entry is meant for this program; a space before the colon makes it a question."""
    return entry.startswith(_MARK)


COMMANDS = (
    Command((":help", ":h"), "", "this list", Commands.help),
    Command((":exit", ":quit", ":q"), "", "leave; Ctrl-D does as well", Commands.leave),
    Command((":clear", ":cl"), "", "clear the screen", Commands.clear_screen),
    Command((":clear-his", ":clh"), "", "begin a new conversation", Commands.clear_history),
    Command((":history", ":his"), "", "show this conversation", Commands.history),
    Command((":seed",), "[N]", "show or set the seed", Commands.seed),
    Command((":conf",), "[key=value ...]", "show or change how answers are made", Commands.conf),
    Command((":reset-conf",), "", "take the model's own settings again", Commands.reset_conf),
    Command((":regen",), "", "another answer to the last question", Commands.regenerate),
    Command((":undo",), "", "take the last question and its answer back", Commands.undo),
    Command((":edit",), "", "change the last question and ask it again", Commands.edit),
    Command((":system",), "[TEXT]", 'show or set the system prompt; "" sends none', Commands.system),
    Command((":save",), "FILE", "save as Markdown, or as .json for :load", Commands.save),
    Command((":load",), "FILE", "go on with a conversation saved as .json", Commands.load),
    Command((":attach",), "[FILE or none]", "send a text, CSV or PDF with the next question", Commands.attach),
    Command((":tokens",), "", "how much of the window is taken", Commands.tokens),
    Command((":copy",), "", "copy the last answer", Commands.copy),
    Command((":open",), "[N or words]", "list or search what is kept, or go on with number N", Commands.open),
    Command((":delete",), "N", "put number N of that list into the trash", Commands.delete),
    Command((":restore",), "[N]", "list the trash, or take number N out of it", Commands.restore),
)
_BY_NAME = {name: command for command in COMMANDS for name in command.names}
_BY_NAME[":clear-history"] = _BY_NAME[":clear-his"]  # what the code of 2023 knew, against its own help


def _chosen(number: str, listed: Sequence[Found], lister: str) -> Found:
    """What stands beside a number in a list; `lister` is the command that shows it."""
    if not 1 <= int(number[:9]) <= len(listed):
        raise CommandError(f"There is no number {safe_line(number, 12)}; {lister} lists what there is.")
    return listed[int(number) - 1]


def _unknown(name: str) -> str:
    nearest = difflib.get_close_matches(name, _BY_NAME, n=1, cutoff=0.0)[0]
    return (
        f"{safe_line(name, 40)} is no command; did you mean {nearest}? :help lists them. A question that begins with a "
        "colon needs a space before it."
    )
