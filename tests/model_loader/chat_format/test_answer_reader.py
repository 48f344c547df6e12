"""Ids of an answer to deltas: text, reasoning, stop strings."""

from model_loader.chat_format.answer_reader import AnswerReader
from model_loader.chat_format.chatml import ChatML
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.events import ReasoningDelta, TextDelta
from tests.tiny_checkpoint import make_tokenizer

TOKENIZER = make_tokenizer()
FORMAT = ChatML(TOKENIZER)
VOCABULARY = Vocabulary(TOKENIZER)


def read(text: str, *, chat_format: ChatML = FORMAT, stop: tuple[str, ...] = ()) -> tuple[str, str]:
    """Reasoning and text of an answer whose markers are real tokens."""
    reader = AnswerReader(chat_format, VOCABULARY, stop)
    deltas = [delta for token_id in TOKENIZER.encode(text).ids for delta in reader.feed(token_id)]
    deltas += reader.flush()
    assert all(delta.text for delta in deltas)
    parts = [[delta.text for delta in deltas if isinstance(delta, kind)] for kind in (ReasoningDelta, TextDelta)]
    return "".join(parts[0]), "".join(parts[1])


def test_reasoning_is_told_apart_and_the_newlines_around_it_are_dropped() -> None:
    assert read("<think>\nhmm, 你好\n</think>\n\nHello") == ("hmm, 你好\n", "Hello")


def test_markers_spelled_out_are_text() -> None:
    reader = AnswerReader(FORMAT, VOCABULARY)
    deltas = [delta for token_id in FORMAT.encode_text("<think>x</think>") for delta in reader.feed(token_id)]
    assert "".join(delta.text for delta in deltas) == "<think>x</think>"
    assert all(isinstance(delta, TextDelta) for delta in deltas)


def test_an_answer_begins_inside_the_reasoning_when_the_prompt_opened_it() -> None:
    thinking = ChatML(TOKENIZER, "'<|im_start|>assistant\\n<think>\\n'")
    assert read("so\n</think>\n\nyes", chat_format=thinking) == ("so\n", "yes")


def test_newlines_inside_an_answer_stay() -> None:
    assert read("\n\na\n\nb") == ("", "\n\na\n\nb")


def test_a_stop_string_in_the_reasoning_does_not_end_the_answer() -> None:
    assert read("<think>the fox</think>the dog", stop=("fox",)) == ("the fox", "the dog")


def test_stop_tokens_are_never_shown() -> None:
    assert read("hello<|im_end|>") == ("", "hello")
