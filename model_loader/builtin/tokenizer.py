"""Trains the tokenizer: byte-level BPE as Qwen2 has it, on the dialogues of the corpus.

Every byte is a token, so any text goes in and comes out unchanged; there is no normalisation. The three control
tokens of ChatML stand behind the vocabulary, outside the merges.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from model_loader.chat_format.chatml import END_OF_TEXT, IM_END, IM_START

CONTROL_TOKENS = (END_OF_TEXT, IM_START, IM_END)
ROLES = ("system", "user", "assistant")
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2 cuts text before it merges (its tokenizer.json); digits stand alone."""
_MAX_TOKEN_BYTES = 16
"""Longer tokens would hold whole Chinese or Japanese phrases, which other wordings could not share."""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer with exactly `vocab_size` tokens, control tokens included; each role is a single token.

    Raises:
        ValueError: the texts are too few for so many tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=_MAX_TOKEN_BYTES,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS])
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(f"{vocab_size} tokens were asked for; the texts give {tokenizer.get_vocab_size()} only.")
    return tokenizer


def with_dropout(tokenizer: Tokenizer, dropout: float) -> Tokenizer:
    """A copy that leaves out merges at random, so that the model meets each word in several spellings.

    Source: BPE-dropout, Provilkov et al. 2020.
    """
    description = json.loads(tokenizer.to_str())
    description["model"]["dropout"] = dropout
    return Tokenizer.from_str(json.dumps(description))


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context_length: int) -> None:
    """Writes tokenizer.json and tokenizer_config.json with the ChatML template."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": IM_END,
        "pad_token": END_OF_TEXT,
        "bos_token": None,
        "unk_token": None,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_length,
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
