"""Notices when an answer says the same again and again, while it is being written.

What comes in is a text piece by piece; what goes out is the position from which on it only repeats what stands before.
Words, single Chinese, Japanese and Korean characters, and signs are compared; white space and the numbers of lists are
not, so that a list that goes in circles is one as well. Each is compared with the one a period earlier, and the period
is wherever the last four stood before: the time is proportional to the length, whatever the text. It knows no models.
"""

import re
from dataclasses import dataclass

_KEY_UNITS = 4


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """When a repetition is a loop: it was said so often, one right after the other, and took so much room.

    People repeat short things often (laughter, a chorus) and long things seldom. Measured on poems, songs with
    refrains, contracts, lists and dialogues of this project's tests: the most they had was 4 times a line.

    Attributes:
        times: by the phrase's length in characters up to which the number holds, shortest first.
        min_chars: what the repetitions, the first time not counted, take at least.
    """

    times: tuple[tuple[int, int], ...]
    min_chars: int

    def is_loop(self, period_chars: int, repeated_chars: int) -> bool:
        """Whether so many characters that repeat a phrase of that length are a loop."""
        times = next(times for up_to, times in self.times if period_chars <= up_to)
        return repeated_chars >= self.min_chars and repeated_chars >= (times - 1) * period_chars


_ANY_LENGTH = 10**9
PROSE = LoopLimits(((12, 30), (40, 8), (160, 5), (_ANY_LENGTH, 3)), min_chars=160)
CODE = LoopLimits(((200, 60), (_ANY_LENGTH, 12)), min_chars=4_000)
"""In code, tables and formulas equal lines are usual: zeros, separators, test data."""

_CJK = r"\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af"
_UNIT = re.compile(
    rf"(?P<gap>\n{{100}}|[^\S\n]{{400}})|(?P<line>\n)|(?P<cjk>[{_CJK}])|(?P<word>[^\W_{_CJK}]{{1,40}})"
    r"|(?P<sign>([^\w\s]|_)\6{0,79})"
)
_GROWING = re.compile(rf"(?P<word>[^\W_{_CJK}]+)\Z|(?P<line>\n+)\Z|(?P<space>[^\S\n]+)\Z|(?P<other>([^\w\s]|_)\5*)\Z")
_WHOLE_CHARS = {"word": 40, "line": 100, "space": 400, "other": 80}
_LIST_NUMBER = re.compile(r"[ \t]*(?:\d{1,5}|[A-Za-z])[.)、](?=\s)|[ \t]*\d{1,5}、")
_FENCE = re.compile(r"[ \t]*(?:[-+*][ \t]+)?(`{3,}|~{3,})")
_SENTENCE_END = frozenset(".!?。！？…;；")
_LINE_HEAD = 8
"""So much of a line has to be there to see whether it begins with a number, a fence or a table's bar."""


class LoopWatch:
    """Reads one text.

    Attributes:
        loops_at: from where on it only repeats itself, in characters; None while it does not.
    """

    def __init__(self, prose: LoopLimits = PROSE, code: LoopLimits = CODE) -> None:
        self.loops_at: int | None = None
        self._prose, self._code = prose, code
        self._held = ""
        self._position = 0  # of the first held character
        self._units: list[str] = []
        self._starts: list[int] = []  # where each unit stands
        self._opens: list[bool] = []  # whether a line or a sentence begins with it
        self._seen: dict[tuple[str, ...], int] = {}
        self._period = 0
        self._run = 0  # how many units have been equal to those a period earlier
        self._fence = ""
        self._is_line_start = self._opens_next = True
        self._is_table = self._is_formula = False
        self._line: int | None = 0  # where the line begins, until its first unit has taken it

    def feed(self, text: str) -> None:
        """Takes the next piece."""
        if self.loops_at is not None:
            return
        text = self._held + text
        end = _end_of_whole_units(text)
        self._read(text[:end])
        self._held = text[end:]
        self._position += end

    def finish(self) -> None:
        """There is no more."""
        if self.loops_at is None:
            self._read(self._held)
            self._held = ""

    def _read(self, text: str) -> None:
        at = 0
        while at < len(text) and self.loops_at is None:
            if self._is_line_start and (at := self._begin_line(text, at)) >= len(text):
                return
            found = _UNIT.search(text, at)
            if found is None:
                return
            at = found.end()
            if found[0] == "$$":
                self._is_formula = not self._is_formula
            if found.lastgroup != "line":
                self._add(found[0], self._position + found.start())
            if found[0][0] == "\n":
                self._is_line_start = self._opens_next = True

    def _begin_line(self, text: str, at: int) -> int:
        """Looks what kind of line it is; returns where its words begin."""
        self._is_line_start = False
        self._line = self._position + at
        fence = _FENCE.match(text, at)
        if fence and (not self._fence or fence[1].startswith(self._fence)):
            self._fence = "" if self._fence else fence[1]
        head = text[at : at + 40]
        self._is_table = head.lstrip(" \t").startswith("|") or " | " in head.partition("\n")[0]
        if not head.partition("\n")[0].strip() or head.startswith("\\]"):
            self._is_formula = False
        elif head.startswith("\\["):
            self._is_formula = True
        number = None if self._fence else _LIST_NUMBER.match(text, at)
        return number.end() if number else at

    def _add(self, unit: str, position: int) -> None:
        units, at = self._units, len(self._units)
        units.append(unit)
        self._starts.append(position if self._line is None else self._line)
        self._line = None
        self._opens.append(self._opens_next)
        self._opens_next = unit[0] in _SENTENCE_END
        if self._run and units[at - self._period] == unit:
            self._run += 1
        else:
            self._run = 0
        if at + 1 >= _KEY_UNITS:
            key = tuple(units[-_KEY_UNITS:])
            before = self._seen.get(key)
            if not self._run and before is not None:
                self._period, self._run = at - before, _KEY_UNITS
            self._seen[key] = at
        if self._run:
            self._judge(at, position + len(unit))

    def _judge(self, at: int, end: int) -> None:
        first_repeated = at - self._run + 1
        limits = self._code if self._fence or self._is_table or self._is_formula else self._prose
        repeated_chars = end - self._starts[first_repeated]
        if repeated_chars < limits.min_chars:
            return
        period_chars = self._starts[first_repeated] - self._starts[max(0, first_repeated - self._period)]
        if limits.is_loop(period_chars, repeated_chars):
            # The period may begin anywhere in the phrase; where a line or a sentence begins it reads best.
            candidates = range(first_repeated, min(first_repeated + self._period, at))
            neat = next((one for one in candidates if self._opens[one]), first_repeated)
            self.loops_at = self._starts[neat]


def _end_of_whole_units(text: str) -> int:
    """Where the last unit ends that cannot grow any more; a line's beginning has to be seen as a whole."""
    line = text.rfind("\n") + 1
    if 0 < len(text) - line < _LINE_HEAD:
        return line
    growing = _GROWING.search(text, max(0, len(text) - 500))
    if growing is None:
        return len(text)
    whole = next(chars for kind, chars in _WHOLE_CHARS.items() if growing[kind])
    return growing.start() + (growing.end() - growing.start()) // whole * whole


def loop_of(text: str) -> int | None:
    """From where on a whole text only repeats itself; None if it does not."""
    watch = LoopWatch()
    watch.feed(text)
    watch.finish()
    return watch.loops_at
