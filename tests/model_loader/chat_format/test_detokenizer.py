"""Text of an answer, id by id: whole characters, none held back, none lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from model_loader.chat_format.chatml import ChatML
from model_loader.chat_format.detokenizer import Detokenizer, Vocabulary
from model_loader.errors import CheckpointUnsupported
from tests.tiny_checkpoint import make_tokenizer

TOKENIZER = make_tokenizer()
VOCABULARY = Vocabulary(TOKENIZER)
FORMAT = ChatML(TOKENIZER)


def pieces(ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(VOCABULARY)
    return [detokenizer.feed(each) for each in ids]


@pytest.mark.parametrize(
    "text", ["こんにちは、お元気ですか。カタカナも", "안녕하세요 반갑습니다", "สวัสดีครับ", "你好，世界", "🙂👩‍👩‍👧 ok"]
)
def test_every_character_appears_with_its_last_byte(text: str) -> None:
    ids = [id for character in text for id in TOKENIZER.encode(character).ids]
    shown = ""
    detokenizer = Detokenizer(VOCABULARY)
    for token_id in ids:
        before = shown
        shown += detokenizer.feed(token_id)
        assert len(shown) - len(before) <= 1
        assert "�" not in shown
    assert shown == text
    assert sum(1 for piece in pieces(ids) if piece) == len(text)


@given(st.text(st.characters(codec="utf-8")))
def test_the_pieces_join_to_the_text(text: str) -> None:
    assert "".join(pieces(FORMAT.encode_text(text))) == text


@given(st.lists(st.integers(0, 511)))
def test_any_ids_at_all_give_whole_characters(ids: list[int]) -> None:
    text = "".join(pieces(ids))
    assert text.encode("utf-8").decode("utf-8") == text
    assert "�" not in text


def test_control_tokens_are_not_shown_and_text_tokens_are() -> None:
    ids = [TOKENIZER.token_to_id(token) for token in ("<|im_end|>", "<tool_call>", "<|endoftext|>")]
    assert pieces(ids) == ["", "<tool_call>", ""]


def test_an_id_of_the_padded_embedding_has_no_text() -> None:
    assert pieces([511, 100_000]) == ["", ""]


def test_the_bytes_of_a_token_are_those_the_tokenizer_decodes() -> None:
    for token_id in range(400):
        text = TOKENIZER.decode([token_id])
        if "�" not in text:
            assert VOCABULARY.token_bytes(token_id).decode() == text


def test_a_tokenizer_that_is_not_byte_level_is_refused() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.decoder = decoders.Metaspace()
    with pytest.raises(CheckpointUnsupported, match="byte-level"):
        Vocabulary(tokenizer)
