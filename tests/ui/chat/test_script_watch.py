# ruff: noqa: E501  (texts of one line each)
"""Where an answer leaves the language it was asked to be in."""

import time

import pytest

from ui.chat.script_watch import AnswerLanguage, ScriptWatch, drift_of

JA = "クジラは脳の半分ずつを眠らせます。だから、眠っている間も息をしに水面へ上がれるのです。"
ZH = "鲸鱼睡觉的时候只有一半大脑在休息。这样它们就可以一边睡觉一边浮到水面呼吸。"
EN = "Whales let one half of the brain rest at a time. That way they can still come up to breathe while they sleep."
CODE = "```python\n# the quick brown fox jumps over the lazy dog and then it runs away again and again\nprint('hello')\n```\n"


@pytest.mark.parametrize(
    ("language", "text", "drifts_to"),
    [
        ("ja", JA + EN, EN),
        ("ja", JA + "\n\n" + ZH, ZH),
        ("ja", EN, EN),
        ("ja", ZH + JA, ZH),
        ("zh", ZH + "\n" + EN, EN),
        ("zh", ZH + JA, JA),
        ("en", f"{EN} {ZH}", ZH),
        ("en", EN + "\n\n- " + JA, "- " + JA),
        ("en", EN + "\nКиты спят по очереди половинами мозга. Так они могут всплывать и дышать во время сна, говорят.", "Киты"),
        ("en", EN + "\n고래는 뇌의 절반씩 잠을 잡니다. 그래서 자는 동안에도 수면으로 올라와 숨을 쉴 수 있습니다.", "고래는"),
        ("ja", JA + "\n" + CODE + EN, EN),
        ("zh", ZH + "\n$$\n\\text{not a word of the text}\n$$\n" + EN, EN),
    ],
)  # fmt: skip
def test_the_first_sentence_in_another_script_is_found(language: AnswerLanguage, text: str, drifts_to: str) -> None:
    at = drift_of(text, language)
    assert at is not None
    assert text[at:].startswith(drifts_to[:12])


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("ja", JA * 5),
        ("zh", ZH * 5),
        ("en", EN * 5),
        ("ja", ""),
        ("ja", "OK."),
        ("ja", "東京都渋谷区神南一丁目、京都府京都市東山区清水一丁目、大阪府大阪市北区梅田三丁目、北海道札幌市中央区北一条西二丁目。"),
        ("ja", "Pythonのlist comprehensionはfor文より速く、NumPyのbroadcastingと組み合わせるとさらに便利です。" * 3),
        ("ja", JA + "\n" + CODE * 4 + JA),
        ("ja", "彼は「It was the best of times, it was the worst of times, it was the age of wisdom」と書きました。" * 2),
        ("ja", JA + "\n> It was the best of times, it was the worst of times, and we all went straight to Heaven in the end.\n" + JA),
        ("ja", "The Beatles、Led Zeppelin、Pink Floyd、The Rolling Stones、Queen、David Bowie、Deep Purple。"),
        ("zh", "在 Python 中，list comprehension 比 for loop 更快，配合 NumPy 的 broadcasting 使用效果更好。" * 3),
        ("zh", "优の良品和鲜の每日都是商店的名字，它们喜欢在招牌上使用日文的の字，这样看起来比较特别。" * 3),
        ("zh", ZH + "\n| the | quick | brown | fox |\n|---|---|---|---|\n| jumps over the lazy dog | and it then runs | far | away |\n" * 3),
        ("zh", "公式是 $\\text{the number of words in a text that is long enough to count}$，见 https://example.com/a/very/long/path。"),
        ("en", EN + " The word 木漏れ日 (komorebi) means sunlight through leaves, and 物の哀れ is the pathos of things."),
        ("en", EN + "\n\n```\n" + ZH + "\n```\n" + EN),
        ("en", "“鲸鱼睡觉的时候只有一半大脑在休息。这样它们就可以一边睡觉一边浮到水面呼吸。” means: " + EN),
        ("en", "3.14 + 2 = 5.14 → ✓ ✓ ✓ 😂 😂 😂 " * 30),
    ],
)  # fmt: skip
def test_code_formulas_names_quotations_and_borrowed_words_are_no_drift(language: AnswerLanguage, text: str) -> None:
    assert drift_of(text, language) is None


def test_a_single_short_sentence_is_a_slip_and_no_drift() -> None:
    assert drift_of(JA + " That is all for now, thanks. " + JA, "ja") is None


@pytest.mark.parametrize("size", [1, 3, 17, 1000])
def test_the_pieces_a_text_comes_in_make_no_difference(size: int) -> None:
    text = JA + "\n" + CODE + "\n" + JA + "\n" + EN + "\n" + JA
    watch = ScriptWatch("ja")
    for at in range(0, len(text), size):
        watch.feed(text[at : at + size])
    watch.finish()
    assert watch.drifted_at == drift_of(text, "ja") == text.index(EN)


@pytest.mark.parametrize(
    "text", ["x", "好", "a ", "$", "`", "```\n", '"', "\\(", ". ", "\n", "https://", "「", "a/", "<"]
)
def test_the_time_is_proportional_to_the_length(text: str) -> None:
    began = time.thread_time()
    drift_of(text * (100_000 // len(text)), "ja")
    watch = ScriptWatch("en")
    for _ in range(30_000):
        watch.feed(text)
    watch.finish()
    assert time.thread_time() - began < 4
