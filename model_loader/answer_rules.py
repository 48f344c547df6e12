"""What an answer must look like, as a filter of tokens: JSON of a schema, or calls of tools.

Here chat format, grammar and engine meet for it. Reasoning always comes first and is free.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from model_loader.answer_stages import Grammatical, OneOf, Reasoning, Stage, StagedFilter
from model_loader.chat_format.call_reader import CALL_START
from model_loader.chat_format.chatml import ChatML, Opening
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.dialect import Dialect
from model_loader.chat_format.messages import Message, ToolUse
from model_loader.engine.request import TokenFilter
from model_loader.errors import InvalidSetting
from model_loader.grammar import Grammars


class AnswerRules:
    """Makes the filters of one model. May be used from any thread."""

    def __init__(
        self,
        chat_format: ChatML,
        vocabulary: Vocabulary,
        dialect: Dialect,
        *,
        vocab_size: int,
        stop_ids: frozenset[int],
    ) -> None:
        self._format = chat_format
        self._dialect = dialect
        self._stop_ids = stop_ids
        self._grammars = Grammars(chat_format, vocabulary, vocab_size, stop_ids)

    def of_text(self, schema: Mapping[str, Any] | None) -> TokenFilter | None:
        """For the continuation of a text; None allows all.

        Raises:
            InvalidSetting: the schema cannot be enforced, or the library for it is missing.
        """
        return None if schema is None else StagedFilter([self._schema_stage(schema)])

    def of_answer(
        self, messages: Sequence[Message], tools: ToolUse, opening: Opening, schema: Mapping[str, Any] | None
    ) -> TokenFilter | None:
        """For the answer to a conversation; None allows all. An answer that must call a tool owes nothing to a schema.

        Raises:
            InvalidSetting: the same, or the schema does not go with the opening or the tools.
        """
        if tools.demanded:
            stage = self._calls_stage(messages, tools, opening)
        elif schema is not None:
            stage = self._schema_stage(schema, self._free_id(tools, opening))
        else:
            return None
        return StagedFilter([*self._reasoning_stages(stage, opening), stage])

    def _schema_stage(self, schema: Mapping[str, Any], free_id: int | None = None) -> Stage:
        return Grammatical(self._grammars.of_schema(schema).allowed_bits, free_id)

    def _free_id(self, tools: ToolUse, opening: Opening) -> int | None:
        """The marker with which an answer may call a tool instead of being JSON of a schema."""
        if opening.text:
            raise InvalidSetting("A JSON schema describes a whole answer, but this one has begun. Leave one out.")
        if not tools.offered:
            return None
        free_id = self._format.marker_id(CALL_START) if self._dialect.writes_json else None
        if free_id is None:
            raise InvalidSetting("This model cannot have tools and a JSON schema at once. Leave out one of them.")
        return free_id

    def _calls_stage(self, messages: Sequence[Message], tools: ToolUse, opening: Opening) -> Stage:
        """By a grammar, if there is one for it; otherwise the beginning of a call at least."""
        if self._dialect.writes_json and not opening.text:
            with contextlib.suppress(InvalidSetting):
                grammar = self._grammars.of_calls(tools.demanded, is_parallel=tools.is_parallel)
                return Grammatical(grammar.allowed_bits)
        beginnings = self._dialect.beginnings(messages, tools, opening)
        return OneOf([self._format.encode_parts(each) for each in beginnings])

    def _reasoning_stages(self, following: Stage, opening: Opening) -> list[Stage]:
        start_id, end_id = self._format.think_start_id, self._format.think_end_id
        is_open = self._format.begins_thinking(opening)
        may_begin = self._format.can_think and not opening.text and not self._format.skips_thinking(opening)
        if start_id is None or end_id is None or not (is_open or may_begin):
            return []
        separator = self._format.encode_text("\n\n")
        return [Reasoning(start_id, end_id, separator, following, self._stop_ids, is_open=is_open)]
