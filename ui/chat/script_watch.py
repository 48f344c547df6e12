"""Notices where an answer leaves the language it was asked to be in, by the scripts it is written in.

What comes in is an answer piece by piece, and one of three languages; what goes out is the position of the first
sentence of a stretch in another script. Code, formulas, addresses and quotations say nothing about the language of an
answer and are passed over, and so are names: words with a capital, a digit or a dot inside. Time is proportional to
the length. It knows no models and no screens.

Scripts tell Japanese, Chinese and everything in Latin letters apart, not English from French.
"""

import re
from typing import Literal

AnswerLanguage = Literal["en", "zh", "ja"]

RUN_UNITS = 24
"""A stretch this long is no slip: about 12 words or 24 characters, one long sentence or two short ones. A quoted title,
a borrowed term or a single short sentence stays below."""
_SENTENCE_UNITS = 8
"""Below this, four words, a sentence says nothing about its language: "OK, let us see"."""
_FOREIGN_SHARE = 3
"""A sentence has left the language when it holds three times as much of another: terms in Latin letters are usual in
Chinese and Japanese."""
_WORD_UNITS = 2
"""A word in letters says about as much as two Chinese characters."""
_MAX_PENDING = 4_000
_KANA_IN_CHINESE = 4
"""Fewer kana are an ornament, as in "优の良品"."""
# Characters that hardly a Chinese sentence of a dozen does without and that Japanese writes otherwise or rarely.
_CHINESE_SIGNS = frozenset(
    "的了是我你们這这也吗嗎呢吧没沒还還么麼说說很就它她您让讓给給哪怎"
    "时过对开关问间个见钱长门东车书语话请谢觉脑鱼样从经现发动电视听读认识难题边亲爱实应该变虽业务产权备处复够总术较单钟级层团"
)
_CHINESE_EVERY = 12

_PASSED_OVER = re.compile(
    r"`++[^`]{0,400}+`+|\$\$?[^$]{1,400}+\$\$?|\\\([^\\]{0,400}+\\\)|\\\[[^\\]{0,400}+\\\]|https?://\S++|<[^<>]{0,99}+>"
    r"|\"[^\"]{0,400}+\"|“[^”]{0,400}+”|「[^」]{0,400}+」|『[^』]{0,400}+』|《[^》]{0,400}+》"
    r"|(?<![\w.-])[\w.-]{1,80}[@/\\_][\w./\\-]+"
)
_LINE_PASSED_OVER = re.compile(r"\s*(?:>|\||:?-{3,}|\$\$|\\begin|\\end)|(?: {4}|\t)\S.*[;{}=()]\s*$")
_FENCE = re.compile(r"\s*(?:[-+*]\s+|\d+[.)]\s+)?(`{3,}|~{3,})")
_SENTENCE = re.compile(r"[^。！？.!?\n]*(?:[。！？]+|[.!?]+(?=\s|$)|[.!?]+|\n|$)")
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_KANA = re.compile(r"[\u3041-\u30ff\u31f0-\u31ff]")
_WORD = re.compile(
    r"[^\W\d_\u1100-\u11ff\u3040-\u30ff\u31f0-\u31ff\u3130-\u318f\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]+"
)
_HANGUL = re.compile(r"[\uac00-\ud7af]")
_NAME = re.compile(r"(?<=[^\W\d_])[A-Z0-9]|^[A-Z]+$|\d")


class ScriptWatch:
    """Reads one answer.

    Attributes:
        drifted_at: where it left its language, in characters; None while it has not.
    """

    def __init__(self, language: AnswerLanguage) -> None:
        self.drifted_at: int | None = None
        self._language = language
        self._pending: list[str] = []
        self._pending_chars = 0
        self._position = 0  # of the first pending character
        self._fence = ""
        self._is_in_formula = False
        self._run_start: int | None = None
        self._run_units = 0

    def feed(self, text: str) -> None:
        """Takes the next piece."""
        self._pending.append(text)
        self._pending_chars += len(text)
        if self.drifted_at is None and ("\n" in text or self._pending_chars > _MAX_PENDING):
            self._read_lines(is_over=self._pending_chars > _MAX_PENDING)

    def finish(self) -> None:
        """There is no more."""
        if self.drifted_at is None:
            self._read_lines(is_over=True)

    def _read_lines(self, *, is_over: bool) -> None:
        text = "".join(self._pending)
        end = len(text) if is_over else text.rfind("\n") + 1
        start = 0
        while start < end and self.drifted_at is None:
            line_end = min(text.find("\n", start, end) + 1 or end, start + _MAX_PENDING)
            self._read_line(text[start:line_end], self._position + start)
            start = line_end
        self._pending = [text[end:]]
        self._pending_chars = len(text) - end
        self._position += end

    def _read_line(self, line: str, position: int) -> None:
        fence = _FENCE.match(line)
        if self._fence:
            if fence and fence[1].startswith(self._fence) and not line.strip(" \t`~\n"):
                self._fence = ""
            return
        if fence:
            self._fence = fence[1]
            return
        is_formula = self._is_in_formula
        self._is_in_formula ^= line.count("$$") % 2 == 1 or line.strip() in ("\\[", "\\]")
        if is_formula or self._is_in_formula or _LINE_PASSED_OVER.match(line):
            return
        line = _PASSED_OVER.sub(lambda found: " " * len(found[0]), line)
        for sentence in _SENTENCE.finditer(line):
            if sentence[0]:
                self._read_sentence(sentence[0], position + sentence.start())

    def _read_sentence(self, sentence: str, position: int) -> None:
        own, foreign = count_units(sentence, self._language)
        if own + foreign < _SENTENCE_UNITS:
            if foreign and self._run_start is not None and not own:
                self._run_units += foreign
            return
        if foreign < _FOREIGN_SHARE * own:
            self._run_start, self._run_units = None, 0
            return
        if self._run_start is None:
            self._run_start = position + len(sentence) - len(sentence.lstrip())
        self._run_units += foreign
        if self._run_units >= RUN_UNITS:
            self.drifted_at = self._run_start


def count_units(sentence: str, language: AnswerLanguage) -> tuple[int, int]:
    """How much of a sentence is in the language's own script, and how much in any other."""
    words = [word for word in _WORD.findall(sentence) if not _is_name(word)]
    latin = _WORD_UNITS * sum(word[0] < "\u0250" for word in words)
    others = _WORD_UNITS * len(words) - latin + len(_HANGUL.findall(sentence))
    han, kana = _HAN.findall(sentence), len(_KANA.findall(sentence))
    if language == "en":
        return latin, others + len(han) + kana
    if language == "ja":
        is_chinese = not kana and _CHINESE_EVERY * sum(sign in _CHINESE_SIGNS for sign in han) >= len(han) > 0
        return (0, latin + others + len(han)) if is_chinese else (len(han) + kana, latin + others)
    is_japanese = kana >= _KANA_IN_CHINESE and 5 * kana >= len(han)
    return (0, latin + others + len(han) + kana) if is_japanese else (len(han), latin + others)


def drift_of(text: str, language: AnswerLanguage) -> int | None:
    """Where a whole text leaves the language; None if it does not."""
    watch = ScriptWatch(language)
    watch.feed(text)
    watch.finish()
    return watch.drifted_at


def _is_name(word: str) -> bool:
    """A brand, an acronym, a name: a capital at its start or inside. A sentence's first word is no loss."""
    return word[0].isupper() or _NAME.search(word) is not None
