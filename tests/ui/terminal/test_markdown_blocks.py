"""Markdown in the making: what is finished never changes again, and nothing of it is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ui.terminal.markdown_blocks import Block, BlockCutter, markdown_parser

DOCUMENT = """# A title

A paragraph of
two lines.

- one
- two

  still two

1. first
2. second

| a | b |
|---|---|
| 1 | 2 |

```python
print("# no title")

- no list
```
> quoted

The end"""
LINES = st.lists(
    st.sampled_from(
        ["", "text", "- item", "  more", "1. one", "2. two", "```py", "```", "x = 1", "# title", "> quote", "---",
         "| a | b |", "|---|---|", "    code", "~~~", "***", "<b>html</b>", "[a]: http://b", "\\[ a*b"]
    ),
    max_size=14,
)  # fmt: skip


def cut(text: str, size: int) -> list[Block]:
    cutter = BlockCutter()
    blocks: list[Block] = []
    for at in range(0, len(text), size):
        cutter.feed(text[at : at + size])
        blocks += cutter.take_finished()
    return blocks + cutter.rest()


def test_each_block_is_finished_when_the_next_one_begins() -> None:
    cutter = BlockCutter()
    cutter.feed("One.\n\nTw")
    assert cutter.take_finished() == []  # half a line may still belong to the first
    assert [block.source for block in cutter.rest()] == ["One.", "Tw"]
    cutter.feed("o.\n")
    assert cutter.take_finished() == [Block("One.")]
    assert cutter.rest() == [Block("Two.")]


def test_a_closed_fence_is_finished_at_once() -> None:
    cutter = BlockCutter()
    cutter.feed("````md\n```\ncode\n```\n")
    assert cutter.take_finished() == []
    cutter.feed("````\n")
    assert cutter.take_finished() == [Block("````md\n```\ncode\n```\n````")]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_document_has_the_same_blocks_however_it_comes(size: int) -> None:
    blocks = cut(DOCUMENT, size)
    assert [block.source.split("\n")[0] for block in blocks] == [
        "# A title", "A paragraph of", "- one", "1. first", "| a | b |", "```python", "> quoted", "The end",
    ]  # fmt: skip


@given(LINES, st.integers(1, 9))
def test_nothing_is_lost_and_nothing_is_there_twice(lines: list[str], size: int) -> None:
    text = "\n".join(lines)
    blocks = cut(text, size)
    kept = [line for block in blocks for line in block.source.split("\n") if line.strip()]
    assert kept == [line for line in lines if line.strip()]


def test_long_code_is_taken_by_lines_and_goes_on_with_its_language() -> None:
    cutter = BlockCutter()
    cutter.feed("```py\na = 1\nb = 2\nc = 3\nd")
    assert cutter.take_part() == Block("```py\na = 1\nb = 2\n```", goes_on=True)
    assert cutter.rest() == [Block("```py\nc = 3\nd", is_continued=True)]
    cutter.feed(" = 4\ne = 5\nf = 6\n")
    assert cutter.take_part() == Block("```py\nc = 3\nd = 4\ne = 5\n```", is_continued=True, goes_on=True)
    cutter.feed("```\n\nText")
    assert [block.source for block in cutter.take_finished()] == ["```py\nf = 6\n```"]
    assert cutter.rest() == [Block("Text")]


def test_a_long_list_is_taken_by_items() -> None:
    cutter = BlockCutter()
    cutter.feed("Before.\n\n1. one\n2. two\n   - sub\n3. three\n")
    assert cutter.take_finished() == [Block("Before.")]
    assert cutter.take_part() == Block("1. one\n2. two\n   - sub", goes_on=True)
    assert cutter.rest() == [Block("3. three", is_continued=True, first_number=3)]
    assert cutter.take_part() is None


def test_other_long_blocks_stay_whole() -> None:
    cutter = BlockCutter()
    cutter.feed("| a |\n|---|\n" + "| 1 |\n" * 50)
    assert cutter.take_part() is None
    assert BlockCutter().take_part() is None


@pytest.mark.parametrize("formula", ["\\(a_1*b*c\\)", "\\[a*b*c\\]", "$$x_i*y*z$$", "\\[\na*b*c\\\\\nd\n\\]"])
def test_formulas_are_text(formula: str) -> None:
    (inline,) = [token for token in markdown_parser().parse(f"Let {formula} be") if token.type == "inline"]
    assert inline.children is not None
    assert "".join(child.content for child in inline.children) == f"Let {formula} be"
    assert {child.type for child in inline.children} == {"text"}


def test_an_opening_without_its_end_is_no_formula() -> None:
    (inline,) = [token for token in markdown_parser().parse("costs $$ and *more* \\(") if token.type == "inline"]
    assert inline.children is not None
    assert "em_open" in {child.type for child in inline.children}
