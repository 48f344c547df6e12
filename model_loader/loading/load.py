"""Puts a checkpoint's weights where its placement says and hands out model and tokenizer together.

transformers' own classes only: no code of the checkpoint is ever run, no pickle is opened, and a tensor that is
missing, left over or of the wrong shape ends the load (transformers would fill it with random numbers).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import transformers
from tokenizers import Tokenizer
from transformers.utils import logging as transformers_logging

from model_loader.checkpoint.context_length import text_section
from model_loader.checkpoint.resolve import Checkpoint
from model_loader.errors import CheckpointDamaged, CheckpointUnsupported, NotEnoughMemory
from model_loader.loading import qwen1
from model_loader.loading.fuse import fuse
from model_loader.loading.gptq import GptqConfig
from model_loader.loading.hardware import use_device
from model_loader.loading.placement import QUANTIZATION_BITS, Placement
from model_loader.loading.quantize import RoundingConfig
from model_loader.loading.qwen1_tokenizer import load_qwen1_tokenizer
from model_loader.progress import LoadProgress, ReportProgress

Result = TypeVar("Result")

_TRIAL_TEXTS = ("Hello 你好 こんにちは 123\n", "a" * 60 + "b")
"""The second takes a pattern such as (a+)+$ for ever."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to compute, and what belongs to it.

    Attributes:
        model: one of transformers' causal language models, in evaluation mode.
        tokenizer: the fast tokenizer, of the `tokenizers` library.
        checkpoint: where both came from.
        placement: where the weights are.
    """

    model: transformers.PreTrainedModel
    tokenizer: Tokenizer
    checkpoint: Checkpoint
    placement: Placement

    @property
    def input_device(self) -> torch.device:
        """Where token ids must be; the first layer's device when the layers are spread."""
        return cast(torch.Tensor, self.model.get_input_embeddings().weight).device

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding: ids below it may be fed to the model."""
        return cast(torch.Tensor, self.model.get_input_embeddings().weight).shape[0]

    @property
    def head_shape(self) -> tuple[int, int, int]:
        """Attention heads of a layer, its key-value heads, and the width of each."""
        config: Any = self.model.config.get_text_config()
        num_heads = config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // num_heads
        return num_heads, getattr(config, "num_key_value_heads", None) or num_heads, head_dim

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of one token's keys and values in all layers."""
        num_layers = self.model.config.get_text_config().num_hidden_layers
        _, kv_heads, head_dim = self.head_shape
        dtype = getattr(torch, self.placement.dtype)
        return int(2 * num_layers * kv_heads * head_dim * dtype.itemsize)

    def rope_alpha(self, prompt_tokens: int) -> float:
        """How much the position embedding is stretched for a prompt; keys can be reused only under the same stretch."""
        return self.model.rope_alpha(prompt_tokens) if isinstance(self.model, qwen1.Qwen1ForCausalLM) else 1.0

    def rope_arguments(self, alphas: torch.Tensor) -> dict[str, Any]:
        """What the model's `forward` must be given about the stretch of each token, `(batch, length)`."""
        return {"rope_alpha": alphas} if isinstance(self.model, qwen1.Qwen1ForCausalLM) else {}

    def query_scale(self, position_ids: torch.Tensor) -> torch.Tensor | None:
        """By how much the queries at these positions are multiplied, in their shape; None for not at all."""
        if isinstance(self.model, qwen1.Qwen1ForCausalLM):
            return self.model.query_scale(position_ids)
        return None


def load_model(checkpoint: Checkpoint, placement: Placement, report: ReportProgress) -> LoadedModel:
    """Loads tokenizer and weights, reporting the stage "weights".

    Raises:
        CheckpointUnsupported: transformers has no text model of this kind.
        CheckpointDamaged: the tokenizer or a weight file does not fit the configuration.
        NotEnoughMemory: the memory ran out although the estimate said it would not.
    """
    report(LoadProgress("weights", 0.0))
    tokenizer = _load_tokenizer(checkpoint, report)
    transformers_logging.set_verbosity_error()
    previous_hook = transformers_logging.set_tqdm_hook(lambda _make, args, _kwargs: _WeightsBar(args, report))
    try:
        model, info = on_a_passing_thread(lambda: _load_weights(checkpoint, placement))
    except torch.OutOfMemoryError:
        raise NotEnoughMemory(
            f"{checkpoint.name} did not fit into the memory of {placement.device}. Close other programs that use it, "
            "or use a smaller checkpoint with -c."
        ) from None
    except (ValueError, KeyError, ImportError) as error:
        if "auto_map" in checkpoint.config:
            raise CheckpointUnsupported(
                f"{checkpoint.name} is of the kind {checkpoint.config.get('model_type')!r} and brings its own code "
                "(auto_map), which is never run. Use a checkpoint that transformers knows, such as -c Qwen/Qwen3-4B."
            ) from None
        raise CheckpointUnsupported(
            f"transformers {transformers.__version__} cannot load {checkpoint.name}: {_first_line(error)}. "
            "Use the checkpoint of a text model, such as -c Qwen/Qwen3-4B."
        ) from error
    except (RuntimeError, OSError, ArithmeticError, TypeError) as error:
        raise CheckpointDamaged(
            f"The files of {checkpoint.name} do not fit together: {_first_line(error)}. Fetch the checkpoint again."
        ) from error
    finally:
        transformers_logging.set_tqdm_hook(previous_hook)
    _refuse_incomplete(checkpoint, info)
    return LoadedModel(model.eval(), tokenizer, checkpoint, placement)


def on_a_passing_thread(compute: Callable[[], Result]) -> Result:
    """What `compute` returns, computed on a thread that is gone afterwards.

    OpenMP gives each thread that computes its own workers; with two such threads alive there are more workers than
    processors, they stop waiting actively, and every small step of the engine takes twice as long.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="load") as executor:
        return executor.submit(compute).result()


def _load_weights(checkpoint: Checkpoint, placement: Placement) -> tuple[transformers.PreTrainedModel, dict[str, Any]]:
    if placement.device != "auto":
        use_device(torch.device(placement.device))
    model, info = _from_pretrained(checkpoint, placement)
    if placement.device != "auto":  # accelerate moves spread layers' inputs by hooks on the layers
        fuse(model)
    if isinstance(model, qwen1.Qwen1ForCausalLM):
        model.give_layers_their_rotation()
    return model, info


def _from_pretrained(
    checkpoint: Checkpoint, placement: Placement
) -> tuple[transformers.PreTrainedModel, dict[str, Any]]:
    model_class: Any = qwen1.Qwen1ForCausalLM if checkpoint.is_qwen1 else transformers.AutoModelForCausalLM
    config, rounding = _read_config(checkpoint), None
    if checkpoint.gptq is not None:
        config.quantization_config = GptqConfig(checkpoint.gptq)
    elif placement.quantization is not None:
        rounding = RoundingConfig(QUANTIZATION_BITS[placement.quantization])
    return model_class.from_pretrained(
        checkpoint.folder,
        config=config,
        quantization_config=rounding,
        dtype=getattr(torch, placement.dtype),
        device_map=placement.device,
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, by their names
    )


def _read_config(checkpoint: Checkpoint) -> transformers.PreTrainedConfig:
    if checkpoint.is_qwen1:
        return qwen1.read_config(checkpoint.config)
    config = transformers.AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False, local_files_only=True)
    text = text_section(checkpoint.config)
    target = config.get_text_config()
    target.max_position_embeddings = text["max_position_embeddings"]
    if _is_extended(text):  # --context-length asks for more than the file says
        target.rope_parameters = dict(text["rope_parameters"])
    return config


def _is_extended(text: Mapping[str, Any]) -> bool:
    rope = text.get("rope_parameters")
    return isinstance(rope, Mapping) and rope.get("rope_type") == "yarn"


def _load_tokenizer(checkpoint: Checkpoint, report: ReportProgress) -> Tokenizer:
    if checkpoint.is_qwen1:
        return load_qwen1_tokenizer(checkpoint.folder, report)
    file = checkpoint.folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise CheckpointDamaged(f"{file} cannot be read: {_first_line(error)}. Fetch the checkpoint again.") from None
    tokenizer.no_truncation()  # some are saved as their training left them
    tokenizer.no_padding()
    _try_out(file, tokenizer, checkpoint)
    return tokenizer


def _try_out(file: Path, tokenizer: Tokenizer, checkpoint: Checkpoint) -> None:
    """Refuses a tokenizer that loses text, has ids the model has not, or whose pattern takes for ever."""
    rows = text_section(checkpoint.config).get("vocab_size")
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if isinstance(rows, int) and highest >= rows:
        raise CheckpointDamaged(
            f"{file} has the id {highest:,}, but the model's vocabulary ends at {rows - 1:,}. Fetch the checkpoint "
            "again."
        )
    try:
        lost = next((text for text in _TRIAL_TEXTS if _round_trip(tokenizer, text) != text), None)
    except BaseException as error:  # a pattern that backtracks without end makes the library panic
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise CheckpointDamaged(
            f"{file} cannot encode a simple text: {_first_line(error)}. Fetch the checkpoint again."
        ) from None
    if lost is not None:
        raise CheckpointDamaged(f"{file} loses characters of {lost[:12]!r}. Fetch the checkpoint again.")


def _round_trip(tokenizer: Tokenizer, text: str) -> str:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return str(tokenizer.decode(ids, skip_special_tokens=False))


def _refuse_incomplete(checkpoint: Checkpoint, info: dict[str, Any]) -> None:
    for kind, keys in (
        ("are missing", info["missing_keys"]),
        ("fit no part of the model", info["unexpected_keys"]),
        ("have the wrong shape", info["mismatched_keys"]),
    ):
        if keys:
            names = sorted(key if isinstance(key, str) else key[0] for key in keys)  # with two shapes if they differ
            shown = ", ".join(names[:3]) + (" and more" if len(names) > 3 else "")
            raise CheckpointDamaged(
                f"{len(names)} weights of {checkpoint.name} {kind} ({shown}). Fetch the checkpoint again."
            )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


class _WeightsBar:
    """Stands where transformers puts a progress bar and passes the share on."""

    def __init__(self, args: tuple[Any, ...], report: ReportProgress) -> None:
        self._items: Iterable[Any] = args[0] if args else ()
        self._report = report

    def __iter__(self) -> Iterator[Any]:
        items = list(self._items)
        for number, item in enumerate(items, start=1):
            yield item
            self._report(LoadProgress("weights", number / len(items)))

    def __enter__(self) -> "_WeightsBar":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, *_: object) -> None:
        pass

    set_postfix = set_postfix_str = set_description = refresh = close = update
