"""Trains the built-in checkpoint from nothing: `make builtin`, or

    python -m model_loader.builtin.train [--output FOLDER] [--steps N] [--device NAME]

In go the data files of `corpus/`; out comes a standard Qwen2 checkpoint with its model card. The same seed gives the
same dialogues, tokenizer and first weights. A GPU is used if there is one; on two CPU cores it takes well under an
hour. The folder appears whole or not at all.
"""

import argparse
import functools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from torch.utils.hooks import RemovableHandle
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from model_loader.builtin import CHECKPOINT_FOLDER
from model_loader.builtin.batches import IGNORED, Batch, held_out_batches, training_batches
from model_loader.builtin.corpus import Corpus, read_corpus
from model_loader.builtin.dialogues import DialogueWriter
from model_loader.builtin.evaluate import evaluate, load
from model_loader.builtin.model_card import TrainingFigures, model_card
from model_loader.builtin.tokenizer import ROLES, save_tokenizer, train_tokenizer
from model_loader.chat_format.chatml import END_OF_TEXT, IM_END
from model_loader.loading.hardware import probe_hardware

CONTEXT_LENGTH = 2048
_VOCAB_SIZE = 5120
_TOKENIZER_DIALOGUES = 20_000
_PROGRESS_EVERY_S = 10.0
_LOGITS_STEP = 128
"""Logits are computed for so many places more or less, so that there are few shapes; see `batches`."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Attributes:
        steps: how many times the weights are changed.
        batch_tokens: ids in one batch, padding included.
        train_context: longest dialogue in tokens; positions beyond it are not trained.
        learning_rate: the highest; it rises over `warmup_steps` and then falls evenly.
        dropout: share of the embeddings' values left out while training; of the layers' half as much.
        seed: of the dialogues and of the first weights.
    """

    steps: int = 8600
    batch_tokens: int = 3072
    train_context: int = 1024
    learning_rate: float = 3e-3
    warmup_steps: int = 60
    weight_decay: float = 0.05
    dropout: float = 0.05
    seed: int = 20260

    @property
    def last(self) -> "Recipe":
        """For some more steps with a small rate, in which the plainest questions are asked more often."""
        return replace(self, steps=self.steps // 8, learning_rate=self.learning_rate / 5, seed=self.seed + 2)

    def learning_rate_at(self, step: int) -> float:
        """The rate for a step, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return self.learning_rate * (1 - 0.98 * done)


def new_model(tokenizer: Tokenizer) -> Qwen2ForCausalLM:
    """The untrained model; every width is a multiple of 128, so that each quantization applies to it."""
    config = Qwen2Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(IM_END),
        pad_token_id=tokenizer.token_to_id(END_OF_TEXT),
        dtype="bfloat16",
    )
    model = Qwen2ForCausalLM(config).float()
    model.set_attn_implementation("eager")  # rows are short: on processors a step takes a sixth less than with "sdpa"
    return model


def train_model(
    model: Qwen2ForCausalLM, batches: Iterator[Batch], held_out: Sequence[Batch], recipe: Recipe
) -> TrainingFigures:
    """Changes the weights `recipe.steps` times and prints how it goes.

    Args:
        model: on the device it is to be trained on, in float32.
        batches: what to learn.
        held_out: what to measure the loss on at the end.
        recipe: how long and how fast.
    """
    optimizers = _optimizers(model, recipe.weight_decay)
    started = last_print = time.perf_counter()
    num_tokens, loss_average = 0, 0.0
    noise = _add_dropout(model, recipe.dropout)
    model.train()
    for step, batch in enumerate(islice(batches, recipe.steps)):
        loss = _loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        num_tokens += batch.num_tokens
        share = 0.03 if step > 30 else 1 / (step + 1)
        loss_average += share * (float(loss.detach()) - loss_average)
        now = time.perf_counter()
        if now - last_print > _PROGRESS_EVERY_S or step + 1 == recipe.steps:
            last_print = now
            left_s = (now - started) / (step + 1) * (recipe.steps - step - 1)
            print(
                f"step {step + 1}/{recipe.steps}  loss {loss_average:.3f}  {num_tokens / (now - started):,.0f} tokens/s"
                f"  {num_tokens / 1e6:.2f} M tokens  {left_s / 60:.1f} min left",
                flush=True,
            )
    elapsed_s = time.perf_counter() - started
    for each in noise:
        each.remove()
    held_out_loss = _mean_loss(model, held_out)
    print(f"trained in {elapsed_s / 60:.1f} min; loss {loss_average:.3f}, on held-out questions {held_out_loss:.3f}")
    return TrainingFigures(recipe.steps, num_tokens, elapsed_s, loss_average, held_out_loss, str(model.device.type))


def save_checkpoint(model: Qwen2ForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes weights in bfloat16, config, generation defaults and tokenizer into an existing folder."""
    model = model.to("cpu", torch.bfloat16)  # type: ignore[arg-type]
    end_ids = [tokenizer.token_to_id(IM_END), tokenizer.token_to_id(END_OF_TEXT)]
    model.generation_config = GenerationConfig(
        eos_token_id=end_ids,
        pad_token_id=end_ids[1],
        do_sample=True,
        temperature=0.3,
        top_p=0.9,
        top_k=20,
        repetition_penalty=1.0,
        max_new_tokens=512,
    )
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder, CONTEXT_LENGTH)


def make_checkpoint(
    output: Path, recipe: Recipe, device: str, *, is_evaluated: bool = True, start: Path | None = None
) -> None:
    """Trains, evaluates if asked to, and puts the finished checkpoint in the place of `output`.

    Args:
        output: the folder to write; what is there is replaced.
        recipe: how to train.
        device: where to train.
        is_evaluated: whether the card gets the evaluation's figures.
        start: a checkpoint that goes through the last steps once more; None begins with random weights and a new
            tokenizer.
    """
    corpus = read_corpus()
    torch.manual_seed(recipe.seed)
    if start is None:
        tokenizer = train_tokenizer(_tokenizer_texts(corpus, recipe.seed), _VOCAB_SIZE)
        model = new_model(tokenizer)
    else:
        tokenizer = Tokenizer.from_file(str(start / "tokenizer.json"))
        model = Qwen2ForCausalLM.from_pretrained(start, dtype=torch.float32)
    model = model.to(device)  # type: ignore[arg-type]
    print(f"{model.num_parameters():,} parameters, {tokenizer.get_vocab_size():,} tokens, on {device}", flush=True)
    figures = None
    for part in (recipe, recipe.last) if start is None else (recipe.last,):
        batches = training_batches(
            corpus, tokenizer, part.seed, part.batch_tokens, part.train_context, are_last=part is not recipe
        )
        figures = _added(figures, train_model(model, batches, list(held_out_batches(corpus, tokenizer)), part))
    assert figures is not None
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as temporary:
        folder = Path(temporary) / output.name
        folder.mkdir()
        save_checkpoint(model, tokenizer, folder)
        evaluation = evaluate(*load(folder), corpus) if is_evaluated else None
        if evaluation:
            print(f"{evaluation.table()}\n{evaluation.json_line()}", flush=True)
        card = model_card(model.config, model.num_parameters(), figures, evaluation, folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        if output.exists():
            shutil.rmtree(output)
        folder.rename(output)
    print(f"wrote {output}")


def _added(first: TrainingFigures | None, second: TrainingFigures) -> TrainingFigures:
    if first is None:
        return second
    return replace(
        second,
        steps=first.steps + second.steps,
        num_tokens=first.num_tokens + second.num_tokens,
        elapsed_s=first.elapsed_s + second.elapsed_s,
    )


def _loss(model: Qwen2ForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean cross entropy of the learned tokens; logits are computed at those places only, and at a few more."""
    ids, labels = batch.ids.to(model.device), batch.labels.to(model.device)[:, 1:].flatten()
    places = (labels != IGNORED).nonzero().squeeze(1)
    labels = functional.pad(labels[places], (0, -len(places) % _LOGITS_STEP), value=IGNORED)
    places = functional.pad(places, (0, -len(places) % _LOGITS_STEP))
    with torch.autocast(model.device.type, torch.bfloat16, enabled=_is_quick_in_bfloat16(model.device.type)):
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        logits = model.lm_head(hidden.flatten(0, 1)[places])
    return functional.cross_entropy(logits.float(), labels, ignore_index=IGNORED)


@functools.cache
def _is_quick_in_bfloat16(device_type: str) -> bool:
    """Whether to compute in bfloat16: 5,400 against 2,200 tokens/s on a core with instructions for it (AVX512-BF16).

    On a processor without them float32 is twice as fast.
    """
    return device_type == "cuda" or (device_type == "cpu" and probe_hardware().cpu_computes_bfloat16)


@torch.inference_mode()
def _mean_loss(model: Qwen2ForCausalLM, batches: Sequence[Batch]) -> float:
    model.eval()
    return sum(float(_loss(model, batch)) for batch in batches) / len(batches)


def _add_dropout(model: Qwen2ForCausalLM, share: float) -> list[RemovableHandle]:
    """Dropout after the embeddings and each layer's MLP, where Qwen2's own class has none; returns what removes it."""

    def drop(share: float) -> Callable[..., torch.Tensor]:
        return lambda module, _inputs, output: functional.dropout(output, share, module.training)

    embeddings = model.get_input_embeddings().register_forward_hook(drop(share))
    return [embeddings, *(layer.mlp.register_forward_hook(drop(share / 2)) for layer in model.model.layers)]


def _optimizers(model: Qwen2ForCausalLM, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, norms and biases, which do not decay.

    Muon learns as much from a token as AdamW does from nearly two (measured on this corpus), which counts where
    training has to fit into minutes on a CPU. Its step is scaled so that both take the same learning rate (J. Liu et
    al. 2025, "Muon is scalable for LLM training").
    """
    embeddings = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    matrices = [each for each in model.parameters() if each.ndim == 2 and id(each) not in embeddings]
    others = [each for each in model.parameters() if each.ndim != 2 or id(each) in embeddings]
    return [
        torch.optim.Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def _tokenizer_texts(corpus: Corpus, seed: int) -> Iterator[str]:
    for dialogue in islice(DialogueWriter(corpus, seed + 1), _TOKENIZER_DIALOGUES):
        yield from (message.content for message in dialogue)
    for role in ROLES:
        yield from [role] * _TOKENIZER_DIALOGUES


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    """The program."""
    default = Recipe()
    parser = argparse.ArgumentParser(description="Trains the built-in checkpoint from the corpus beside this program.")
    parser.add_argument(
        "--output", type=Path, default=CHECKPOINT_FOLDER, help="folder to write (default: the shipped one)"
    )
    parser.add_argument("--steps", type=int, default=default.steps, help=f"training steps (default: {default.steps})")
    parser.add_argument("--seed", type=int, default=default.seed, help=f"seed of everything (default: {default.seed})")
    parser.add_argument("--device", default=_best_device(), help="torch device (default: a GPU if there is one)")
    parser.add_argument("--skip-evaluation", action="store_true", help="write the checkpoint without measuring it")
    parser.add_argument("--start", type=Path, help="checkpoint folder to take through the last steps again")
    arguments = parser.parse_args()
    recipe = Recipe(steps=arguments.steps, seed=arguments.seed)
    make_checkpoint(
        arguments.output, recipe, arguments.device, is_evaluated=not arguments.skip_evaluation, start=arguments.start
    )


if __name__ == "__main__":
    main()
