"""Reads the hand-written data files: topics with their questions and answers, names, phrases, word lists.

What comes out is plain frozen data. How a template becomes a question is `phrasing`'s business, how questions become
dialogues is `dialogues`'; this module only checks that the files are whole.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from model_loader.builtin import CORPUS_FOLDER

LANGUAGES = ("en", "zh", "ja")
AREA_FILES = (
    "small_talk",
    "small_talk_more",
    "models",
    "command_line",
    "page",
    "conversations",
    "settings",
    "show",
    "follow_ups",
    "refusals",
)
_FLAG = re.compile(r"(?<![^\s`/])(--[a-z][a-z0-9-]*|-[a-z])(?![\w-])")
_ELSEWHERE = re.compile(r"pip install -r \S+")
"""Commands of other programs, whose flags are not ours."""


@dataclass(frozen=True, slots=True)
class Speech:
    """One topic in one language.

    Attributes:
        ask: question templates for training.
        held_out: questions for the evaluation alone.
        nouns: what it is called, for the frames of "about".
        doings: what one does about it, for the frames of "doing".
        say: whole answers; the same place in another language says the same.
        short: the answer in few words.
    """

    ask: tuple[str, ...]
    held_out: tuple[str, ...]
    nouns: tuple[str, ...]
    doings: tuple[str, ...]
    say: tuple[str, ...]
    short: str


@dataclass(frozen=True, slots=True)
class Topic:
    """Something the guide can be asked about. A topic without a language (such as "in Japanese please") has "any"."""

    name: str
    area: str
    speech: Mapping[str, Speech]


@dataclass(frozen=True, slots=True)
class Names:
    """People's names in one language: those to train on, those for the evaluation, and pieces to make up more."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    syllables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Everything in the data files.

    Attributes:
        topics: by name, in the order of the files.
        names: by language.
        words: word lists for the slots of unrelated questions, by language and slot.
        phrases: by language; "howto" and the like are lists of alternatives, "before" and "after" stand around,
            "about" and "doing" are frames with a star for a noun or a doing.
        system_prompts: templates of system messages.
    """

    topics: Mapping[str, Topic]
    names: Mapping[str, Names]
    words: Mapping[str, Mapping[str, tuple[str, ...]]]
    phrases: Mapping[str, Mapping[str, tuple[str, ...]]]
    system_prompts: tuple[str, ...]

    def held_out(self) -> Iterator[tuple[Topic, str, str]]:
        """Every held-out question with its topic and language."""
        for topic in self.topics.values():
            for language, speech in topic.speech.items():
                for question in speech.held_out:
                    yield topic, language, question


@cache
def read_corpus(folder: Path = CORPUS_FOLDER) -> Corpus:
    """Reads all data files of a folder.

    Raises:
        ValueError: a file does not have the expected form; the message names the topic.
    """
    topics: dict[str, Topic] = {}
    words: dict[str, dict[str, tuple[str, ...]]] = {}
    keywords = _read(folder, "keywords")
    for area in AREA_FILES:
        for name, table in _read(folder, area).items():
            if name == "words":
                words = {language: _comma_lists(lists) for language, lists in table.items()}
            elif name in topics:
                raise ValueError(f"Topic {name} stands in {topics[name].area}.toml and again in {area}.toml.")
            else:
                topics[name] = _topic(name, area, table, keywords.pop(name, {}))
    if keywords:
        raise ValueError(f"keywords.toml names no topic of the other files: {', '.join(keywords)}.")
    phrases = _read(folder, "phrases")
    names = _read(folder, "names")
    syllables = names.pop("syllables")
    return Corpus(
        topics=MappingProxyType(topics),
        names={
            language: Names(lists["train"], lists["held_out"], tuple(syllables[language].split()))
            for language, lists in ((language, _comma_lists(table)) for language, table in names.items())
        },
        words=words,
        phrases={language: _phrase_lists(phrases[language]) for language in LANGUAGES},
        system_prompts=_lines(phrases["system"]["prompts"]),
    )


def named_flags(corpus: Corpus) -> set[str]:
    """The command-line flags that the corpus' answers mention, as `-c` or `--cpu-only`."""
    texts = (
        text
        for topic in corpus.topics.values()
        for speech in topic.speech.values()
        for text in (*speech.say, speech.short)
    )
    return {flag for text in texts for flag in _FLAG.findall(_ELSEWHERE.sub("", text))}


def _read(folder: Path, name: str) -> dict[str, Any]:
    return tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8"))


def _topic(name: str, area: str, table: Mapping[str, Any], keywords: Mapping[str, str]) -> Topic:
    by_language = table if all(isinstance(each, dict) for each in table.values()) else {"any": table}
    try:
        speech = {language: _speech(entry, language, keywords) for language, entry in by_language.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"Topic {name} in {area}.toml does not have the expected form: {error!r}.") from error
    return Topic(name, area, speech)


def _speech(entry: Mapping[str, Any], language: str, keywords: Mapping[str, str]) -> Speech:
    unknown = set(entry) - {"ask", "held_out", "say", "short"}
    if unknown:
        raise KeyError(*sorted(unknown))
    say = entry.get("say", "")
    nouns, doings, sentences = (
        tuple(filter(None, keywords.get(f"{language}_{kind}", "").split("|"))) for kind in ("n", "v", "s")
    )
    return Speech(
        ask=(*_lines(entry.get("ask", "")), *sentences),
        held_out=_lines(entry.get("held_out", "")),
        nouns=nouns,
        doings=doings,
        say=tuple(say) if isinstance(say, list) else _lines(say),
        short=entry.get("short", ""),
    )


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.split("\n") if line.strip())


def _comma_lists(lists: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(word.strip() for word in text.split(",")) for key, text in lists.items()}


def _phrase_lists(table: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    lists = ("before", "after", "about", "doing")
    return {key: _lines(text) if key in lists else tuple(text.split("|")) for key, text in table.items()}
