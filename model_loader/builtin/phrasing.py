"""Turns a question template into one of its many wordings, the way hurried people type them.

    {a|b} alternatives, <howto> phrases of the language, [place] words of a list, [number] and [nonsense] made up

Everything is drawn from the `random.Random` that is handed in, so the same seed gives the same wording. It knows
questions only: what they mean and what the answer is stands in `corpus`.
"""

import re
import unicodedata
from random import Random

from model_loader.builtin.corpus import Corpus

_ALTERNATIVES = re.compile(r"\{([^{}]*)\}")
_PHRASE = re.compile(r"<(\w+)>")
_SLOT = re.compile(r"\[(\w+)\]")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_STRANGE_WORD_SHARE = 0.05
"""How often a word that means nothing stands in a question: the words around it decide what it is about."""
_DROP_SHARES = {"en": (0.25, 0.1), "zh": (0.15, 0.07), "ja": (0.15, 0.07)}
"""Where something is left out of a question: which share of the small words (or characters), and of the others."""
_LEAST_PARTS = 4
"""From how many words (or characters) on something may be left out: of "shorter please" nothing can be."""
_RARE_NAME_SHARE = 0.4
"""How often a made-up name consists of any characters at all: only then is each of them copied, rather than known."""


def _common_characters(encoding: str, last_row: int) -> str:
    """The common Han characters of a national standard: whole rows of 94, from 0xB0 on."""
    rows = (bytes((row, cell)) for row in range(0xB0, last_row) for cell in range(0xA1, 0xFF))
    return "".join(pair.decode(encoding) for pair in rows)


_HAN_CHARACTERS = {"zh": _common_characters("gb2312", 0xD7), "ja": _common_characters("euc_jp", 0xCF)}
_KANA = ("".join(map(chr, range(0x3042, 0x3094))), "".join(map(chr, range(0x30A2, 0x30F4))))
_NAME_CHARACTERS = {"zh": (_HAN_CHARACTERS["zh"],), "ja": (_HAN_CHARACTERS["ja"], *_KANA)}


def normalised(text: str) -> str:
    """A question without case, spaces and punctuation: two questions with the same rest count as the same."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if character.isalnum())


class Phrasing:
    """Draws wordings of templates.

    Args:
        corpus: where phrases, word lists and names come from.
        random: the source of every choice.
    """

    def __init__(self, corpus: Corpus, random: Random) -> None:
        self._corpus = corpus
        self._random = random
        self._held_out_names = {name for names in corpus.names.values() for name in names.held_out}

    def question(self, template: str, language: str, name: str = "") -> str:
        """One wording of a question, with the small words and slips that may come with it.

        Args:
            template: a line of a topic's `ask`.
            language: a code of `LANGUAGES`.
            name: what `[name]` stands for.
        """
        text = self.filled(template, language, name)
        if name:  # a slip or a word more would change what has to be repeated later
            return text + self._random.choice(self._corpus.phrases[language]["marks"])
        return self._slipped(self._surrounded(text, language), language).strip() or text

    def framed(self, kind: str, keyword: str, language: str) -> str:
        """A keyword in one of the language's frames.

        Args:
            kind: "about" for a noun, "doing" for something to do.
            keyword: what stands for the frame's star.
            language: a code of `LANGUAGES`.
        """
        return self._random.choice(self._corpus.phrases[language][kind]).replace("*", keyword)

    def filled(self, template: str, language: str, name: str = "") -> str:
        """One wording of a template, exactly as written."""
        phrases = self._corpus.phrases[language]
        text = _PHRASE.sub(lambda match: self._random.choice(phrases[match[1]]), template)
        while match := _ALTERNATIVES.search(text):
            text = text[: match.start()] + self._random.choice(match[1].split("|")) + text[match.end() :]
        return _SLOT.sub(lambda match: name if match[1] == "name" else self._word(match[1], language), text)

    def name(self, language: str) -> str:
        """A person's name, from the list or made up of syllables; never a held-out one."""
        if self._random.random() < 0.12:
            language = "en"
        names = self._corpus.names[language]
        if self._random.random() < 0.4:
            return self._random.choice(names.train)
        while True:
            name = self._made_up_name(language)
            if name not in self._held_out_names:
                return name

    def _made_up_name(self, language: str) -> str:
        if language != "en" and self._random.random() < _RARE_NAME_SHARE:
            characters = self._random.choice(_NAME_CHARACTERS[language])
            return "".join(self._random.choices(characters, k=self._random.randint(2, 4)))
        syllables = self._corpus.names[language].syllables
        length = self._random.choices((1, 2, 3, 4), (1, 6, 5, 2) if language != "zh" else (1, 5, 5, 0))[0]
        name = "".join(self._random.choice(syllables) for _ in range(length))
        if language == "en":
            if self._random.random() < 0.15:
                name += " " + self._random.choice(syllables) + self._random.choice(syllables)
            name = name.title() if self._random.random() < 0.85 else name
        return name

    def _word(self, slot: str, language: str) -> str:
        if slot == "number":
            return str(self._random.randrange(10 ** self._random.randint(1, 4)))
        if slot == "nonsense":
            return self._nonsense(language)
        return self._random.choice(self._corpus.words[language][slot])

    def _nonsense(self, language: str) -> str:
        if language == "en":
            if self._random.random() < 0.4:
                return "".join(self._random.choice(_LETTERS) for _ in range(self._random.randint(2, 9)))
            pieces = self._corpus.names["en"].syllables
        elif self._random.random() < 0.6:
            return "".join(self._random.choices(_HAN_CHARACTERS[language], k=self._random.randint(1, 3)))
        else:
            pieces = self._corpus.names[language].syllables
        return "".join(self._random.choice(pieces) for _ in range(self._random.randint(2, 4)))

    def _surrounded(self, text: str, language: str) -> str:
        phrases = self._corpus.phrases[language]
        if self._random.random() < 0.25:
            text = self._random.choice(phrases["before"]) + text
        if self._random.random() < 0.15:
            text += self._random.choice(phrases["after"])
        return text + self._random.choice(phrases["marks"])

    def _slipped(self, text: str, language: str) -> str:
        if language == "en":
            draw = self._random.random()
            if draw < 0.5:
                text = text[:1].upper() + text[1:]
            elif draw < 0.52:
                text = text.upper()
        if self._random.random() < 0.5:
            text = self._thinned(text, language)
        if self._random.random() < _STRANGE_WORD_SHARE:
            text = self._with_a_strange_word(text, language)
        if self._random.random() < (0.12 if language == "en" else 0.03):
            text = self._with_a_typo(text)
        return text

    def _thinned(self, text: str, language: str) -> str:
        """Some words or characters left out, small ones more often, now and then in another order.

        What is left still says what is meant; a text of a few words alone stays whole.
        """
        separator = " " if language == "en" else ""
        parts = text.split(" ") if language == "en" else list(text)
        if len(parts) < _LEAST_PARTS:
            return text
        small, other = _DROP_SHARES[language]
        small_words = self._corpus.phrases[language]["small"]
        kept = [part for part in parts if self._random.random() > (small if part.lower() in small_words else other)]
        if self._random.random() < 0.15:
            at = self._random.randrange(1, len(parts))
            kept = kept[at:] + kept[:at]
        return separator.join(kept)

    def _with_a_strange_word(self, text: str, language: str) -> str:
        separator = " " if language == "en" else ""
        parts = text.split(" ") if language == "en" else list(text)
        parts.insert(self._random.randint(0, len(parts)), self._nonsense(language))
        return separator.join(parts)

    def _with_a_typo(self, text: str) -> str:
        """One letter dropped, doubled or swapped with the next."""
        if len(text) < 8:
            return text
        at = self._random.randrange(1, len(text) - 2)
        first, second = text[at], text[at + 1]
        return text[:at] + self._random.choice((second, first * 2 + second, second + first)) + text[at + 2 :]
