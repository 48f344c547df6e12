"""Token ids back to text, one at a time, never showing half a character.

A byte-level tokenizer cuts between bytes, not characters: one Japanese or Thai character may need three tokens. Text
comes out as soon as its bytes are whole UTF-8, so at most one character is ever held back; bytes that can never
become a character are left out.
"""

import codecs
import json

from tokenizers import Tokenizer

from model_loader.byte_level import BYTE_OF_CHARACTER
from model_loader.errors import CheckpointUnsupported


class Vocabulary:
    """The bytes behind every id of a byte-level tokenizer; build it once for a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """
        Raises:
            CheckpointUnsupported: the tokenizer is not a byte-level one.
        """
        if not _is_byte_level(json.loads(tokenizer.to_str())["decoder"]):
            raise CheckpointUnsupported(
                "The tokenizer is not a byte-level one, as all of the Qwen family are. Use a Qwen checkpoint, such as "
                "-c Qwen/Qwen3-4B."
            )
        added = tokenizer.get_added_tokens_decoder()
        self._tokenizer = tokenizer
        self._names = {token_id: token.content.encode() for token_id, token in added.items()}
        self._added = {token_id: b"" if token.special else token.content.encode() for token_id, token in added.items()}

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one id: none for control tokens and for ids that have no token (padding of the embedding)."""
        if token_id in self._added:
            return self._added[token_id]
        token = self._tokenizer.id_to_token(token_id)
        return b"" if token is None else bytes(BYTE_OF_CHARACTER[character] for character in token)

    def name_bytes(self, token_id: int) -> bytes:
        """As `token_bytes`, but control tokens have the bytes of their name."""
        return self._names.get(token_id) or self.token_bytes(token_id)


class Detokenizer:
    """The text of one answer, in pieces."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")

    def feed(self, token_id: int) -> str:
        """The characters that this token completes; often one, sometimes none or several."""
        return self._decoder.decode(self._vocabulary.token_bytes(token_id))


def _is_byte_level(decoder: dict[str, object] | None) -> bool:
    if not decoder:
        return False
    steps = decoder.get("decoders", [decoder])
    return isinstance(steps, list) and any(step.get("type") == "ByteLevel" for step in steps)
