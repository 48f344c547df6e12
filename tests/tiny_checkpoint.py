"""Random checkpoints of a few kilobytes, whole in every other respect: real files, real classes, a real tokenizer."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

CONTROL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT_TOKENS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
"""Added tokens that are not special, as Qwen3's tokenizer has them."""
TOOL_TEMPLATE = "{{- '# Tools <tool_call></tool_call>' }}"
"""What is read of a chat template whose model calls tools in JSON."""
_SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and system, user and assistant talk about it.",
    "你好，我是一个很小的模型。今天天气怎么样？",
    "こんにちは、お元気ですか。カタカナも書けます。",
]


def make_tokenizer() -> Tokenizer:
    """A byte-level tokenizer in the manner of Qwen's, with 400 tokens and the added ones behind them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_SENTENCES * 20, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in TEXT_TOKENS])
    return tokenizer


def write_tiny_checkpoint(
    folder: Path, *, kind: str = "qwen2", seed: int = 0, chat_template: str = "", **changes: Any
) -> Path:
    """Writes a random checkpoint of a transformers architecture; `changes` go into its config."""
    tokenizer = make_tokenizer()
    sizes = {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "initializer_range": 0.3,
    }
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(kind, **{**sizes, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.generation_config = transformers.GenerationConfig(
        do_sample=True, temperature=0.7, top_p=0.8, top_k=20, max_new_tokens=64, eos_token_id=config.eos_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Qwen2Tokenizer", "chat_template": chat_template})
    )
    return folder
