# ruff: noqa: E501  (texts of one line each)
"""An answer that says the same again and again is noticed; poems, songs, tables and code are left alone."""

import random
import re
import time
from pathlib import Path

import pytest

from ui.chat.loop_watch import LoopWatch, loop_of

ROOT = Path(__file__).parents[3]
EN = "The cat sat on the mat and looked at me. "
JA = "私は昨日の夜にその本を読みました。"
REFRAIN = """Row, row, row your boat,
Gently down the stream.
Merrily, merrily, merrily, merrily,
Life is but a dream.

"""
SONG = """We sailed away one morning, the harbour was asleep,
{0}
The captain counted seven stars above the silent deep,
{0}

Oh, roll her down, roll her down, roll her down to the sea,
Oh, roll her down, roll her down, roll her down to the sea,
Oh, roll her down, roll her down, roll her down to the sea,
And bring my sailor back to me.

The wind was in the rigging and the rain was in our hair,
{0}
The gulls were crying after us, but no one seemed to care,
{0}

Oh, roll her down, roll her down, roll her down to the sea,
Oh, roll her down, roll her down, roll her down to the sea,
Oh, roll her down, roll her down, roll her down to the sea,
And bring my sailor back to me.
""".format("Away, my love, away")
CLAUSES = "".join(
    f"{number}. The tenant shall pay the landlord the sum named in annex {number} on the first day of each month.\n"
    for number in range(1, 40)
)
WEEK = "".join(
    f"- **Week {week}:** run {week + 2} km on Tuesday, rest on Wednesday, swim on Friday.\n" for week in range(30)
)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Here it is. " + EN * 12, "Here it is. " + EN),
        ("答えは次です。" + JA * 30, "答えは次です。" + JA),
        ("好的。" + "我不知道该怎么办，" * 40, "好的。我不知道该怎么办，"),
        ("It is very " + "very " * 200, "It is very "),
        ("Hm" + "!" * 1000, "Hm!!"),
        ("😂" * 900, "😂"),
        ("Wait. " + "\n" * 3000, "Wait. \n"),
        ("- Be kind to others.\n" * 30, "- Be kind to others.\n"),
        ("".join(f"{n}. {('apple', 'banana', 'cherry pie')[n % 3]}\n" for n in range(90)), "0. apple\n1. banana\n2. cherry pie\n"),
        ("Intro.\n\n" + (CLAUSES[:900] + "\n\n") * 4, "Intro.\n\n" + CLAUSES[:900] + "\n\n"),
        ("A b c d e one A b c d e two. " * 40, "A b c d e one A b c d e two. "),
        ("```python\n" + "print('the same line, and the same again')\n" * 300, "```python\nprint('the same"),
        ("|a|b|\n|-|-|\n" + "|0|0|\n" * 2000, "|a|b|\n|-|-|\n|0|0|"),
    ],
)  # fmt: skip
def test_repetition_is_noticed_and_the_first_time_is_kept(text: str, kept: str) -> None:
    at = loop_of(text)
    assert at is not None
    assert text[:at].startswith(kept)
    assert len(text[:at]) <= len(kept) + 110


@pytest.mark.parametrize(
    "text",
    [
        REFRAIN * 2,
        SONG,
        CLAUSES,
        WEEK,
        "ha " * 20,
        "-" * 120 + "\n" + "=" * 120,
        "No. " * 9 + "I said no.",
        EN * 4,
        "| Day | Plan |\n|---|---|\n" + "| Monday | rest |\n" * 30,
        "```\n" + "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n" * 32 + "```\n",
        "```python\n" + "    assert value == expected\n" * 40 + "```",
        "".join(f"{number} × 7 = {7 * number}\n" for number in range(1, 100)),
        "".join(f"Q: What is {n}?\nA: It is a number.\n\n" for n in range(60)),
        " ".join(str(number) for number in range(1, 500)),
        "\n".join("#" * length for length in range(1, 40)),
        "春が来た 春が来た どこに来た\n山に来た 里に来た 野にも来た\n花がさく 花がさく どこにさく\n山にさく 里にさく 野にもさく\n",
        "床前明月光，疑是地上霜。举头望明月，低头思故乡。" * 3,
    ],
)
def test_what_people_repeat_is_left_alone(text: str) -> None:
    assert loop_of(text) is None


def test_no_text_of_this_project_is_taken_for_a_loop() -> None:
    texts = [*ROOT.glob("*.md"), *ROOT.glob("ui/**/*.py"), *ROOT.glob("model_loader/**/*.py"), ROOT / "LICENSE"]
    corpus = sorted((ROOT / "model_loader/builtin/corpus").glob("*.toml"))
    answers = [one for path in corpus for one in re.findall(r'"""\n?(.*?)"""', path.read_text("utf-8"), re.DOTALL)]
    read = [path.read_text("utf-8") for path in texts] + answers
    assert sum(map(len, read)) > 500_000
    assert [text[:60] for text in read if loop_of(text) is not None] == []


@pytest.mark.parametrize("size", [1, 3, 7, 50, 1000])
def test_it_is_noticed_soon_whatever_pieces_it_comes_in(size: int) -> None:
    text = "Here is the answer, at last. " + EN * 30
    watch = LoopWatch()
    for at in range(0, len(text), size):
        watch.feed(text[at : at + size])
        if watch.loops_at is not None:
            break
    assert watch.loops_at is not None
    assert text[: watch.loops_at].endswith(EN)
    assert at <= 29 + 6 * len(EN) + size


def test_the_time_is_proportional_to_the_length() -> None:
    began = time.thread_time()
    drawn = random.Random(5)
    for text in (
        "".join(drawn.choice("的一二三四") for _ in range(100_000)),
        " ".join(drawn.choice("abcd") for _ in range(50_000)),
        " ".join(map(str, range(20_000))),
        "a" * 39 + "b" * 100_000,
    ):
        watch = LoopWatch()
        for at in range(0, len(text), 3):
            watch.feed(text[at : at + 3])
        watch.finish()
    assert time.thread_time() - began < 6


MATRIX = "\\begin{pmatrix}\n" + "0 & 0 & 0 & 0 & 0 & 0 & 0 & 0 & 0 & 0 \\\\\n" * 10 + "\\end{pmatrix}\n"


@pytest.mark.parametrize(
    "text",
    [
        f"The matrix:\n\n$$\n{MATRIX}$$\nis zero.",
        f"The matrix: $${MATRIX}$$",
        f"\\[\n{MATRIX}\\]\n",
        "a | b | c\n---|---|---\n" + "0 | 0 | 0\n" * 40,
    ],
)
def test_zeros_in_formulas_and_tables_are_no_loop(text: str) -> None:
    assert loop_of(text) is None


def test_a_lone_double_dollar_does_not_hide_a_loop() -> None:
    assert loop_of("It costs $$ a lot.\n\n" + "And so it goes on and on. " * 40) is not None
