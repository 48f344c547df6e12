"""Qwen-1's vocabulary, `qwen.tiktoken`, to a fast tokenizer that gives the same ids.

The file lists tokens by rank; a fast tokenizer wants to know which two parts each token is merged from. Those are the
two that remain when the token's bytes are encoded with all lower ranks. The result is kept in the user's cache folder
under the hash of its sources. Rules of the original: QwenLM/Qwen, tokenization_qwen.py (December 2023).
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import platformdirs
from tiktoken.load import load_tiktoken_bpe
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from model_loader.byte_level import CHARACTER_OF_BYTE
from model_loader.errors import CheckpointDamaged
from model_loader.progress import LoadProgress, ReportProgress

VOCABULARY_FILE = "qwen.tiktoken"
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{n}|>" for n in range(205)))
"""They follow the last rank of the vocabulary, in this order: 151643 is the end of text."""
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LAYOUT_VERSION = 1
"""Part of the cache key; raise it when the conversion changes."""

Ranks = Mapping[bytes, int]


def load_qwen1_tokenizer(folder: Path, report: ReportProgress) -> Tokenizer:
    """The tokenizer of a Qwen-1 folder, converted the first time (seconds) and cached from then on.

    Raises:
        CheckpointDamaged: the vocabulary is missing, unreadable, incomplete or contradicts itself.
    """
    sources = [folder / VOCABULARY_FILE, *_extra_vocabulary(folder)]
    digest = hashlib.sha256(f"layout {_LAYOUT_VERSION}".encode())
    for source in sources:
        digest.update(hashlib.sha256(_read(source)).digest())
    cached = Path(platformdirs.user_cache_dir("qwen-chat")) / "tokenizers" / f"{digest.hexdigest()}.json"
    if cached.is_file():
        try:
            return Tokenizer.from_file(str(cached))
        except Exception:  # a damaged cache is no reason to stop; it is written again
            cached.unlink(missing_ok=True)
    report(LoadProgress("weights", detail="converting the tokenizer"))
    tokenizer = convert_vocabulary(read_ranks(sources[0]), *(read_ranks(source) for source in sources[1:]))
    _keep(tokenizer, cached)
    return tokenizer


def read_ranks(file: Path) -> Ranks:
    """The tokens of a vocabulary file and their ranks, in the file's order.

    Raises:
        CheckpointDamaged: a line is no base64 token and rank, or two lines give the same.
    """
    content = _read(file)
    try:
        ranks = load_tiktoken_bpe(str(file), expected_hash=hashlib.sha256(content).hexdigest())
    except ValueError as error:
        raise _damaged(file, str(error).split(" in /")[0]) from None
    num_lines = sum(1 for line in content.splitlines() if line)
    if len(ranks) != num_lines or len(set(ranks.values())) != num_lines or b"" in ranks:
        raise _damaged(file, "a token or a rank occurs twice, or a token is empty")
    return ranks


def convert_vocabulary(ranks: Ranks, extra: Ranks | None = None) -> Tokenizer:
    """A fast tokenizer with the ids of a Qwen-1 vocabulary.

    Args:
        ranks: the vocabulary; ranks must be 0, 1, 2 and so on, and hold all single bytes.
        extra: more tokens with ids of their own; those that exist or whose ids are taken are passed over.

    Raises:
        CheckpointDamaged: a rank is missing, a single byte is, or a token cannot be merged from two others.
    """
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise _damaged(VOCABULARY_FILE, f"its {len(ranks):,} ranks are not 0 to {len(ranks) - 1:,}")
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise _damaged(VOCABULARY_FILE, "not every single byte is in it")
    first_special = len(ranks)
    merges = _recover_merges(ranks)
    if len(merges) != len(ranks) - 256:
        raise _damaged(VOCABULARY_FILE, f"{len(ranks) - 256 - len(merges):,} tokens are not merged from two others")
    if extra:
        first_free = first_special + len(SPECIAL_TOKENS)
        added = {token: rank for token, rank in extra.items() if token not in ranks and rank >= first_free}
        ranks = {**ranks, **added}
        merges = _recover_merges(ranks)
    # The control tokens stand in the vocabulary to keep their ids; no text reaches them, the pattern cuts it before.
    vocabulary = {_spell(token): rank for token, rank in ranks.items()}
    vocabulary |= {token: first_special + n for n, token in enumerate(SPECIAL_TOKENS)}
    # ignore_merges is tiktoken's rule: a piece of text that is a token as a whole is never taken apart.
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer


def _recover_merges(ranks: Ranks) -> list[tuple[str, str]]:
    """For every token that has them, its two parts; ordered by rank, which is the order of merging."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            parts = _encode_below(token, ranks, rank)
            if len(parts) == 2:
                merges.append((_spell(parts[0]), _spell(parts[1])))
    return merges


def _encode_below(token: bytes, ranks: Ranks, limit: int) -> list[bytes]:
    """The byte pair encoding of a token's bytes that uses only ranks below `limit`."""
    parts = [token[n : n + 1] for n in range(len(token))]
    while len(parts) > 1:
        pairs = [ranks.get(parts[n] + parts[n + 1], limit) for n in range(len(parts) - 1)]
        lowest = min(pairs)
        if lowest >= limit:
            break
        at = pairs.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _spell(token: bytes) -> str:
    return "".join(CHARACTER_OF_BYTE[byte] for byte in token)


def _extra_vocabulary(folder: Path) -> list[Path]:
    """The file that the tokenizer's configuration names as `extra_vocab_file`, inside the folder."""
    try:
        name = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("extra_vocab_file")
    except (OSError, ValueError, AttributeError):
        return []
    if not name:
        return []
    if not isinstance(name, str) or Path(name).name != name:
        raise _damaged(folder / "tokenizer_config.json", f"extra_vocab_file is {name!r}, not a file of this folder")
    return [folder / name]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CheckpointDamaged(f"{file} cannot be read ({error.strerror}). Fetch the checkpoint again.") from None


def _keep(tokenizer: Tokenizer, cached: Path) -> None:
    """Writes the cache whole or not at all; a folder that cannot be written costs only the next start's seconds."""
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=cached.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(tokenizer.to_str())
        os.replace(temporary, cached)
    except OSError:
        pass


def _damaged(file: Path | str, what: str) -> CheckpointDamaged:
    return CheckpointDamaged(f"The vocabulary {file} is damaged: {what}. Fetch the checkpoint again.")
