"""JSON schemas as grammars of tokens, through the llguidance library if it is installed.

It reads a schema in a few milliseconds and works out what may follow at each step, within limits of its own; so no
schema can hold up a start or a step, and one that is too much for it ends the one answer that asked for it.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from model_loader.chat_format.call_reader import CALL_END, CALL_START
from model_loader.chat_format.chatml import ChatML
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.messages import Tool
from model_loader.errors import InvalidSetting

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

_MAX_SCHEMA_CHARACTERS = 100_000
_SPACING: "JsonCompileOptions" = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""As models write JSON by themselves. Free spacing would let a small one write blanks for ever."""


class Grammar:
    """What one answer may go on with."""

    def __init__(self, matcher: "LLMatcher") -> None:
        self._matcher = matcher
        self._num_read = 0

    def allowed_bits(self, ids: Sequence[int]) -> int:
        """A bit for each id that may follow these, as a `TokenFilter` says; `ids` only ever grows.

        Raises:
            InvalidSetting: the schema leads nowhere, or is too much to follow.
        """
        self._matcher.consume_tokens(list(ids[self._num_read :]))
        self._num_read = len(ids)
        bits = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise _unenforceable(self._matcher.get_error())
        return int.from_bytes(bits, "little")


class Grammars:
    """Makes grammars for one tokenizer. May be used from any thread."""

    def __init__(self, chat_format: ChatML, vocabulary: Vocabulary, vocab_size: int, stop_ids: frozenset[int]) -> None:
        self._format = chat_format
        self._vocabulary = vocabulary
        self._vocab_size = vocab_size
        self._stop_ids = stop_ids
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None

    def of_schema(self, schema: Mapping[str, Any]) -> Grammar:
        """JSON of a schema; of an empty one any object.

        Raises:
            InvalidSetting: the schema is no schema, says something that cannot be enforced, or nothing is allowed by
                it; or the library is missing.
        """
        return self._start(schema=_as_json(schema or {"type": "object"}))

    def of_calls(self, tools: Sequence[Tool], *, is_parallel: bool) -> Grammar:
        """Calls of these tools and nothing else, with arguments of their schemas as far as those can be enforced.

        Raises:
            InvalidSetting: the same.
        """
        start, end = (self._marker(each) for each in (CALL_START, CALL_END))
        calls = " | ".join(f"call_{number}" for number in range(len(tools)))
        lines = [
            f"start: call{' (NEWLINE call)*' if is_parallel else ''}",
            f'call: {start} "\\n" ({calls}) "}}\\n" {end}',
            'NEWLINE: "\\n"',
        ]
        for number, tool in enumerate(tools):
            head = json.dumps(f'{{"name": "{tool.name}", "arguments": ')
            schema = {"type": "object", **(tool.parameters or {}), "x-guidance": {**_SPACING, "lenient": True}}
            lines.append(f"call_{number}: {head} %json {_as_json(schema)}")
        return self._start(lark="\n".join(lines))

    def _marker(self, text: str) -> str:
        token_id = self._format.marker_id(text)
        return json.dumps(text) if token_id is None else f"<[{token_id}]>"

    def _start(self, *, schema: str = "", lark: str = "") -> Grammar:
        try:
            from llguidance import LLMatcher
        except ImportError:
            raise InvalidSetting(
                "Answers of a JSON schema need the llguidance library, which is not installed. Install it with: "
                "pip install llguidance"
            ) from None
        try:
            source = lark or LLMatcher.grammar_from_json_schema(schema, overrides=_SPACING)
        except ValueError as error:
            raise _unenforceable(str(error)) from None
        matcher = LLMatcher(self._prepared(), source, log_level=0)
        trial = matcher.deep_copy()
        trial.compute_bitmask()
        trial.compute_ff_tokens()
        if trial.is_error():
            raise _unenforceable(trial.get_error())
        return Grammar(matcher)

    def _prepared(self) -> "LLTokenizer":
        """The tokenizer as the library wants it; making it takes half a second, so it waits for the first schema."""
        from llguidance import LLTokenizer, TokenizerWrapper

        with self._lock:
            if self._tokenizer is None:
                stop_ids = sorted(self._stop_ids)
                words = _Words(self._format, self._vocabulary, self._vocab_size, stop_ids[0])
                self._tokenizer = LLTokenizer(
                    TokenizerWrapper(words),
                    n_vocab=self._vocab_size,
                    eos_token=stop_ids,
                    slices=LLTokenizer.json_slices(),
                )
            return self._tokenizer


class _Words:
    """A vocabulary in the shape that llguidance asks for. No grammar's text is ever an added token."""

    def __init__(self, chat_format: ChatML, vocabulary: Vocabulary, vocab_size: int, stop_id: int) -> None:
        self.eos_token_id = stop_id
        self.bos_token_id = None
        self.special_token_ids = sorted(chat_format.added_ids)
        self.tokens = [
            vocabulary.name_bytes(each) if each in chat_format.added_ids else vocabulary.token_bytes(each)
            for each in range(vocab_size)
        ]
        self._encode = chat_format.encode_text

    def __call__(self, text: bytes) -> list[int]:
        return self._encode(text.decode("utf-8", "replace"))


def _as_json(schema: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidSetting(f"The JSON schema cannot be written as JSON ({error}). Give a JSON object.") from None
    if len(text) > _MAX_SCHEMA_CHARACTERS:
        raise InvalidSetting(
            f"The JSON schema has {len(text):,} characters; {_MAX_SCHEMA_CHARACTERS:,} is the most. Ask for a simpler "
            "one."
        )
    return text


def _unenforceable(why: str) -> InvalidSetting:
    first_line = why.strip().split("\n")[0].rstrip(".")
    return InvalidSetting(f"The JSON schema cannot be enforced: {first_line:.200}. Ask for a simpler one.")
