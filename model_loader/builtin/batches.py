"""Dialogues as training batches: token ids, and which of them are to be learned.

The ids are exactly what the application sends to a model (`ChatML`, piece by piece), except that a share of the
merges is left out in what the user says. Learned are the assistant's words and the token that ends them. Rows are
padded on the right, where a causal model does not look, so no mask is needed.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from tokenizers import Tokenizer

from model_loader.builtin.corpus import LANGUAGES, Corpus
from model_loader.builtin.dialogues import LAST_PLAIN_SHARE, PLAIN_SHARE, DialogueWriter
from model_loader.builtin.phrasing import Phrasing
from model_loader.builtin.tokenizer import with_dropout
from model_loader.chat_format.chatml import END_OF_TEXT, ChatML
from model_loader.chat_format.messages import Message

IGNORED = -100
"""The label of an id that is not learned (torch's `cross_entropy` skips it)."""
_MERGE_DROPOUT = 0.1
_BEGINNING_TOKENS = 7
_BEGINNING_SHARES = (0.9, 0.6)
"""Of dialogues with one answer, and of those with more, how many teach only the first tokens of each answer: those
decide what it is about, and the rest is soon known by heart, so that most of the time would go into what needs no
learning. Such a dialogue ends soon after its last answer has begun. Short answers come in the longer ones only."""
_COPY_BATCHES = 200
"""How many batches come first that hold nothing but random ids said twice: a model learns to copy from these within
half a million ids, and from dialogues alone hardly ever; it needs that to repeat a name."""
_COPY_LENGTHS = (6, 12, 24)
_COPY_SHARE = 0.05
"""How many rows, against dialogues, are made-up names said twice, so that copying is not forgotten."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids and labels, both (rows, length); the label at a place is the id that stands there."""

    ids: torch.Tensor
    labels: torch.Tensor

    @property
    def num_tokens(self) -> int:
        """How many ids are no padding."""
        return int(self.lengths.sum())

    @property
    def lengths(self) -> torch.Tensor:
        """Length of each row without its padding, (rows,)."""
        last_learned = (self.labels != IGNORED).int().cumsum(dim=1).argmax(dim=1)
        return last_learned + 1


class DialogueEncoder:
    """Turns dialogues into ids and labels.

    Args:
        tokenizer: of the model that is trained.
        merge_dropout: share of merges left out in what the user says.
    """

    def __init__(self, tokenizer: Tokenizer, merge_dropout: float = 0.0) -> None:
        self._chatml = ChatML(tokenizer)
        self._user_chatml = ChatML(with_dropout(tokenizer, merge_dropout)) if merge_dropout else self._chatml
        self._newline_ids = self._chatml.encode_text("\n")
        self._answer_start_ids = self._chatml.answer_start_ids
        self._im_end_id = self._chatml.encode_message(Message("assistant", ""))[-1]
        self._padding_id = tokenizer.token_to_id(END_OF_TEXT)

    def encode(self, dialogue: Sequence[Message]) -> tuple[list[int], list[int]]:
        """Ids and labels of one dialogue, which ends with the assistant's last word."""
        ids: list[int] = []
        labels: list[int] = []
        for message in dialogue:
            if message.role == "assistant":
                content = [*self._chatml.encode_text(message.content), self._im_end_id]
                ids += self._answer_start_ids + content
                labels += [IGNORED] * len(self._answer_start_ids) + content
            else:
                shell = self._chatml.encode_message(Message(message.role, ""))
                chatml = self._user_chatml if message.role == "user" else self._chatml
                ids += [*shell[:-1], *chatml.encode_text(message.content), *shell[-1:]]
            ids += self._newline_ids
            labels += [IGNORED] * (len(ids) - len(labels))
        num_last = len(self._newline_ids)
        return ids[:-num_last], labels[:-num_last]

    def encode_text(self, text: str) -> list[int]:
        """The ids of plain text."""
        return self._chatml.encode_text(text)

    def batch(self, rows: Sequence[tuple[list[int], list[int]]], length: int = 0) -> Batch:
        """Rows padded on the right to a length, or to the longest of them."""
        length = max(length, *(len(ids) for ids, _ in rows))
        return Batch(
            torch.tensor([ids + [self._padding_id] * (length - len(ids)) for ids, _ in rows]),
            torch.tensor([labels + [IGNORED] * (length - len(labels)) for _, labels in rows]),
        )


def training_batches(
    corpus: Corpus, tokenizer: Tokenizer, seed: int, batch_tokens: int, context_length: int, *, are_last: bool = False
) -> Iterator[Batch]:
    """An endless, seeded stream of batches of at most `batch_tokens` ids each, padding included.

    First come random ids to copy, then dialogues of about the same length; what is longer than `context_length` is cut
    at its end. The last ones of a training have nothing to copy, and ask the plainest questions more often.
    """
    writer = DialogueWriter(corpus, seed, LAST_PLAIN_SHARE if are_last else PLAIN_SHARE)
    encoder = DialogueEncoder(tokenizer, _MERGE_DROPOUT)
    random = Random(seed)
    phrasing = Phrasing(corpus, random)
    for _ in range(0 if are_last else _COPY_BATCHES):
        length = random.choice(_COPY_LENGTHS)
        vocabulary = range(tokenizer.get_vocab_size())
        yield encoder.batch(
            [_said_twice(random.choices(vocabulary, k=length)) for _ in range(batch_tokens // length // 2)]
        )
    lengths = _row_lengths(context_length)
    waiting: dict[int, list[tuple[list[int], list[int]]]] = {length: [] for length in lengths}
    while True:
        for ids, labels in _rows(writer, encoder, phrasing, random, context_length):
            length = lengths[bisect_left(lengths, len(ids))]
            rows = waiting[length]
            rows.append((ids, labels))
            if len(rows) == batch_tokens // length:
                yield encoder.batch(rows, length)
                rows.clear()


def _rows(
    writer: DialogueWriter, encoder: DialogueEncoder, phrasing: Phrasing, random: Random, context_length: int
) -> Iterator[tuple[list[int], list[int]]]:
    """A dialogue, and now and then names to copy."""
    dialogue = writer.write()
    ids, labels = (each[:context_length] for each in encoder.encode(dialogue))
    has_one_answer = sum(message.role == "assistant" for message in dialogue) == 1
    # To repeat a name is learned from whole answers alone.
    is_whole = writer.has_name or random.random() > _BEGINNING_SHARES[0 if has_one_answer else 1]
    yield (ids, labels) if is_whole else _beginnings(ids, labels)
    if random.random() < _COPY_SHARE:
        yield _copy_row(encoder, phrasing, random)


def _row_lengths(longest: int) -> list[int]:
    """To what rows are padded, in steps of an eighth at most.

    A processor's kernels are made anew for each shape of a batch and kept: with any shape that comes, making them took
    a quarter of the training's time, and keeping them gigabytes.
    """
    lengths = [16]
    while lengths[-1] < longest:
        lengths.append(min(longest, lengths[-1] + max(8, 2 ** (lengths[-1].bit_length() - 1) // 8)))
    return lengths


def _beginnings(ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
    """A row of which only the beginnings of the answers are learned, cut after the last of them."""
    num_learned = end = 0
    shortened = []
    for place, label in enumerate(labels):
        num_learned = num_learned + 1 if label != IGNORED else 0
        is_beginning = 0 < num_learned <= _BEGINNING_TOKENS
        shortened.append(label if is_beginning else IGNORED)
        if is_beginning:
            end = place + 1
    return ids[:end], shortened[:end]


def _copy_row(encoder: DialogueEncoder, phrasing: Phrasing, random: Random) -> tuple[list[int], list[int]]:
    """Two or three names twice, of which the second time is to be learned."""
    language = random.choice(LANGUAGES)
    names = ", ".join(phrasing.name(language) for _ in range(random.randint(2, 3)))
    return _said_twice(encoder.encode_text(names + "\n"))


def _said_twice(ids: list[int]) -> tuple[list[int], list[int]]:
    """A row of ids and the same again, of which the second time is to be learned."""
    return ids * 2, [IGNORED] * len(ids) + ids


def held_out_batches(corpus: Corpus, tokenizer: Tokenizer, rows_per_batch: int = 64) -> Iterator[Batch]:
    """The held-out questions, each with the first answer of its topic, as batches to measure the loss on."""
    encoder = DialogueEncoder(tokenizer)
    rows = []
    for topic, language, question in corpus.held_out():
        speech = topic.speech[language]
        if speech.say and "[name]" not in question + speech.say[0]:
            rows.append(encoder.encode((Message("user", question), Message("assistant", speech.say[0]))))
    rows.sort(key=lambda row: len(row[0]))
    for start in range(0, len(rows), rows_per_batch):
        yield encoder.batch(rows[start : start + rows_per_batch])
