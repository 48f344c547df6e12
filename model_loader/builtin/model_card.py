"""Writes the model card: what the checkpoint is, what it was made from, how it measured, what it cannot do.

Every figure is handed in by the training program; nothing in the text is typed in by hand that a retraining changes.
"""

from dataclasses import dataclass
from pathlib import Path

from transformers import PretrainedConfig

from model_loader.builtin.evaluate import Evaluation


@dataclass(frozen=True, slots=True)
class TrainingFigures:
    """How a training went: loss is the mean cross entropy of learned tokens, in nats."""

    steps: int
    num_tokens: int
    elapsed_s: float
    loss: float
    held_out_loss: float
    device: str


def model_card(
    config: PretrainedConfig, num_parameters: int, figures: TrainingFigures, evaluation: Evaluation | None, folder: Path
) -> str:
    """The card of a finished checkpoint, as Markdown."""
    size_mb = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    return f"""---
license: apache-2.0
language: [en, zh, ja]
library_name: transformers
pipeline_tag: text-generation
---

# The built-in guide

A very small language model that knows one thing: the chat application it comes with. It lets everything run at once
on any machine, without a download, and it gives the tests true generation. For anything else load a real model:
`python app.py -c Qwen/Qwen3-4B`.

## Size

| | |
|---|---:|
| architecture | `{config.architectures[0] if config.architectures else "Qwen2ForCausalLM"}` |
| parameters | {num_parameters:,} |
| hidden, intermediate width | {config.hidden_size}, {config.intermediate_size} |
| layers, heads, key-value heads | {config.num_hidden_layers}, {config.num_attention_heads}, \
{config.num_key_value_heads} |
| vocabulary (byte-level BPE) | {config.vocab_size:,} |
| context length | {config.max_position_embeddings:,} tokens |
| this folder | {size_mb:.1f} MB |

## Data

Dialogues in English, Chinese and Japanese, put together by a seeded generator from the hand-written files in
`model_loader/builtin/corpus/`. No other text was used, and no other model's weights. Questions marked `held_out`
there were never trained on.

## Training

`make builtin` trains it from nothing: {figures.steps:,} steps over {figures.num_tokens / 1e6:.2f} million tokens in \
{figures.elapsed_s / 60:.0f} minutes
on this machine's {figures.device.upper()}. Loss on training dialogues {figures.loss:.3f}, on held-out questions \
{figures.held_out_loss:.3f} nats per token (a topic has several
right answers, so neither can reach zero).

## Evaluation

Greedy replies, judged by which answer of the corpus they resemble most
(`python -m model_loader.builtin.evaluate`):

{evaluation.table() if evaluation else "Not measured yet."}

## Limits

It has learned its answers by heart and knows nothing about the world; it should say so when asked. It takes an unusual
wording for another topic now and then, and may answer an unrelated question that sounds like a familiar one. It
follows no system prompt and calls no tools. Long conversations beyond about a thousand tokens were not trained.
"""
