"""What a checkpoint of the catalog would need on a machine, before a byte of it is fetched; pure, without torch.

The decision is `choose_placement`'s own: it is asked about a checkpoint that is not there, of the catalog's sizes.
"""

from dataclasses import dataclass
from pathlib import Path

from model_loader.checkpoint.catalog import CATALOG, Entry
from model_loader.checkpoint.quantization import Gptq
from model_loader.checkpoint.resolve import Checkpoint
from model_loader.checkpoint.safetensors_header import Weights
from model_loader.errors import InvalidSetting, NotEnoughMemory
from model_loader.loading.placement import Hardware, LoadOptions, Placement, choose_placement, weight_bytes

_GROUP_BYTES = 0.5 + 2.5 / 128
"""Bytes of a 4-bit GPTQ weight, with a scale and a zero for each group of 128."""
_GROUP_BYTES_8 = 1 + 3 / 128


@dataclass(frozen=True, slots=True)
class Estimate:
    """Whether a checkpoint fits and what it takes.

    Attributes:
        entry: the checkpoint.
        placement: where it would go; None when it does not fit.
        weight_bytes: of its weights as they would be kept, or in 16 bits when they do not fit.
        kv_bytes: of one conversation that fills the window.
        reason: a sentence: the placement's, or what is missing.
    """

    entry: Entry
    placement: Placement | None
    weight_bytes: int
    kv_bytes: int
    reason: str

    @property
    def fits(self) -> bool:
        """Whether this machine can load it."""
        return self.placement is not None


def estimate(entry: Entry, hardware: Hardware, options: LoadOptions) -> Estimate:
    """What a checkpoint of the catalog would need here."""
    checkpoint = _imagined(entry)
    kv_bytes = entry.shape.kv_bytes_per_token * entry.context
    try:
        placement = choose_placement(checkpoint, hardware, options)
    except (NotEnoughMemory, InvalidSetting) as error:
        return Estimate(entry, None, weight_bytes(checkpoint, "bfloat16"), kv_bytes, str(error))
    size = weight_bytes(checkpoint, placement.dtype, placement.quantization)
    return Estimate(entry, placement, size, kv_bytes, placement.reason)


def estimate_all(hardware: Hardware, options: LoadOptions) -> list[Estimate]:
    """Every chat checkpoint of the catalog, in its order."""
    return [estimate(entry, hardware, options) for entry in CATALOG if entry.is_chat]


def advise(name: str, hardware: Hardware, options: LoadOptions) -> str:
    """The largest chat checkpoint of the same family that fits, else of all, as a sentence; "" if none does."""
    fitting = [each for each in estimate_all(hardware, options) if each.fits and each.entry.name != name]
    family = name.split("-")[0]
    candidates = [each for each in fitting if each.entry.name.split("-")[0] == family] or fitting
    if not candidates:
        return ""
    best = max(candidates, key=lambda each: each.entry.shape.parameters)
    return f" {best.entry.name} fits: {best.weight_bytes / 1e9:.1f} GB of weights."


def _imagined(entry: Entry) -> Checkpoint:
    """A checkpoint with the sizes of an entry and no files."""
    shape = entry.shape
    names = {"model.embed_tokens.weight"} | (set() if shape.is_tied else {"lm_head.weight"})
    stored = shape.parameters * 2
    gptq = None
    if entry.bits != 16:
        gptq = Gptq(entry.bits, 128, zeros_are_less_one=True, stores_biases=False)
        per_weight = _GROUP_BYTES if entry.bits == 4 else _GROUP_BYTES_8
        stored = int(shape.linear_parameters * per_weight) + (shape.parameters - shape.linear_parameters) * 2
    return Checkpoint(
        name=entry.name,
        folder=Path(),
        config={
            "model_type": shape.architecture,
            "vocab_size": shape.vocab,
            "hidden_size": shape.hidden,
            "max_position_embeddings": entry.context,
        },
        generation_config={},
        chat_template="",
        weights=Weights(shape.parameters, stored, frozenset(names)),
        gptq=gptq,
    )
