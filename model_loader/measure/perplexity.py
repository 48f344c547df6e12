"""How well a checkpoint predicts texts of growing length, with each of its ways to read more than it was trained on.

A text is cut into pieces of the wanted length that do not overlap; the perplexity is the exponential of the mean
negative log likelihood of every token but each piece's first. The text is read as a stream, and the engine computes
a piece in parts, so memory does not grow with either.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from tokenizers import Tokenizer

from model_loader.checkpoint.context_length import parse_long_context, switch_long_context
from model_loader.checkpoint.hub import HubOptions
from model_loader.checkpoint.resolve import Checkpoint, resolve_checkpoint
from model_loader.engine.engine import Engine
from model_loader.engine.request import Request, Sampling, Token
from model_loader.engine.slots import SlotPlan
from model_loader.errors import InvalidSetting
from model_loader.loading.hardware import probe_hardware
from model_loader.loading.load import load_model
from model_loader.loading.placement import LoadOptions, choose_placement

QWEN1_METHODS = ("none", "ntk", "ntk,logn", "ntk,logn,window")
"""The rows of the table that the Qwen-7B README of 2023 has."""
OWN_METHOD = "as it is"
_LONGEST = 131_072
_BLOCK_CHARACTERS = 65_536
"""Texts are tokenized in blocks of about this size, each to the end of a line."""

ReportShare = Callable[[str, float], None]
"""Told what is being measured and which share of it is done."""


@dataclass(frozen=True, slots=True)
class PerplexityRow:
    """One measurement.

    Attributes:
        method: the long-context methods that were on, or `OWN_METHOD`.
        length: tokens in a piece.
        num_pieces: how many there were.
        perplexity: over all of them.
    """

    method: str
    length: int
    num_pieces: int
    perplexity: float


def measure_perplexity(
    name: str,
    texts: Sequence[Path],
    lengths: Sequence[int],
    options: LoadOptions,
    hub: HubOptions,
    report: ReportShare,
    *,
    max_pieces: int,
) -> Iterator[PerplexityRow]:
    """One row after the other: every length under every method the checkpoint has.

    Args:
        name: of the checkpoint.
        texts: UTF-8 files.
        lengths: of the pieces, in tokens, at least 2 each.
        options: where the model goes; its long-context methods are not looked at.
        hub: where names are looked up.
        report: told of the progress.
        max_pieces: how many pieces of each length are read at most.

    Raises:
        InvalidSetting: a length is out of range, or a text cannot be read or is shorter than a piece.
        ModelLoaderError: as loading says.
    """
    for length in lengths:
        if not 2 <= length <= _LONGEST:
            raise InvalidSetting(f"--lengths names {length}; give numbers of tokens from 2 to {_LONGEST:,}.")
    for text in texts:
        if not text.is_file():
            raise InvalidSetting(f"There is no file {str(text)!r}. Give text files in UTF-8.")
    checkpoint = resolve_checkpoint(name, hub=hub)
    for method in QWEN1_METHODS if checkpoint.is_qwen1 else (OWN_METHOD,):
        changed = checkpoint
        if method != OWN_METHOD:
            changed = replace(checkpoint, config=switch_long_context(checkpoint.config, parse_long_context(method)))
        yield from _measure_method(changed, method, texts, lengths, options, report, max_pieces)


def _measure_method(
    checkpoint: Checkpoint,
    method: str,
    texts: Sequence[Path],
    lengths: Sequence[int],
    options: LoadOptions,
    report: ReportShare,
    max_pieces: int,
) -> Iterator[PerplexityRow]:
    placement = choose_placement(checkpoint, probe_hardware(), options)
    loaded = load_model(checkpoint, placement, lambda progress: report(f"{method}: loading", progress.fraction or 0.0))
    engine = Engine(loaded, SlotPlan(1, max(lengths) + 1, "for one text at a time"))
    try:
        for length in lengths:
            total, num_tokens, num_pieces = 0.0, 0, 0
            for piece, share in _pieces(texts, loaded.tokenizer, length, max_pieces):
                report(f"{method}: {length:,} tokens", share)
                total -= sum(_logprobs(engine, piece))
                num_tokens += len(piece) - 1
                num_pieces += 1
            if not num_pieces:
                raise InvalidSetting(
                    f"The texts are shorter than {length:,} tokens. Give longer ones, or a smaller number in --lengths."
                )
            yield PerplexityRow(method, length, num_pieces, math.exp(total / num_tokens))
    finally:
        engine.close()


def _logprobs(engine: Engine, piece: tuple[int, ...]) -> list[float]:
    request = Request(piece, Sampling(max_new_tokens=1, temperature=0.0), frozenset(), has_prompt_logprobs=True)
    with closing(engine.stream(request)) as items:
        for item in items:
            if isinstance(item, Token):
                return [each.logprob for each in item.prompt_logprobs or ()]
    raise RuntimeError("the engine gave no token")


def _pieces(
    texts: Sequence[Path], tokenizer: Tokenizer, length: int, max_pieces: int
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Pieces of exactly `length` tokens, each with the share of the work that is done when it begins."""
    num_bytes = sum(text.stat().st_size for text in texts) or 1
    num_done, bytes_before = 0, 0
    for text in texts:
        ids: list[int] = []
        bytes_read = 0
        for block in _blocks(text):
            bytes_read += len(block.encode())
            ids += tokenizer.encode(block, add_special_tokens=False).ids
            while len(ids) >= length:
                yield tuple(ids[:length]), max(num_done / max_pieces, (bytes_before + bytes_read) / num_bytes)
                del ids[:length]
                num_done += 1
                if num_done == max_pieces:
                    return
        bytes_before += text.stat().st_size


def _blocks(text: Path) -> Iterator[str]:
    try:
        with text.open(encoding="utf-8") as stream:
            while block := stream.read(_BLOCK_CHARACTERS):
                yield block + stream.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{text} cannot be read as UTF-8 text ({error}). Give text files.") from None
