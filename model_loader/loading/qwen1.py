"""Qwen-1, the checkpoints of 2023, as a variety of transformers' Qwen2.

The weights are the same up to their names and one matrix that is split in three; transformers' own converters do that
while they load. What Qwen2 has not is Qwen-1's way to read beyond its training length: a rotary base that grows with
the prompt (dynamic NTK) and queries that grow with the logarithm of their position (LogN).
Formulas: QwenLM/Qwen, modeling_qwen.py (December 2023).

Window attention was announced and never published. What is here is our reading of the announcement: lower layers see
fewer tokens back, the first eighth of them one training length, the next eighth two, all others four, and each layer's
rotary base is stretched for no more than it sees.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import torch
import transformers
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Chunk, ConversionOps, WeightConverter, WeightRenaming
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from model_loader.errors import CheckpointUnsupported

_ATTENTION = "qwen1_sdpa"


class Qwen1Config(transformers.Qwen2Config):
    """Qwen2's configuration and three facts of Qwen-1.

    Attributes:
        seq_length: the training length, in tokens; NTK and LogN act beyond it.
        use_dynamic_ntk, use_logn_attn: whether they do.
        use_window_attn: whether layers see only as far back as `layer_windows` says.
    """

    model_type = "qwen"
    head_dim: int = 128
    seq_length: int = 2048
    use_dynamic_ntk: bool = True
    use_logn_attn: bool = True
    use_window_attn: bool = False


def read_config(config: Mapping[str, Any]) -> Qwen1Config:
    """Qwen-1's `config.json`, in any of its spellings of 2023, in Qwen2's terms.

    Raises:
        CheckpointUnsupported: it describes a variety that was never published.
    """
    hidden_size = _first(config, "hidden_size", "n_embd")
    num_heads = _first(config, "num_attention_heads", "n_head")
    kv_channels = config.get("kv_channels", hidden_size // num_heads)
    for name, found, expected in (
        ("kv_channels", kv_channels * num_heads, hidden_size),
        ("rotary_pct", config.get("rotary_pct", 1.0), 1.0),
        ("no_bias", config.get("no_bias", True), True),
    ):
        if found != expected:
            raise CheckpointUnsupported(
                f"config.json gives {name} {config.get(name)!r}, which no published Qwen-1 checkpoint has. Use "
                "Qwen/Qwen-7B-Chat or another of that family."
            )
    seq_length = config.get("seq_length", 2048)
    return Qwen1Config(
        vocab_size=config.get("padded_vocab_size", config["vocab_size"]),
        hidden_size=hidden_size,
        # The original halves it inside the model: gate and up are half as wide as the file says.
        intermediate_size=_first(config, "intermediate_size", "ffn_hidden_size") // 2,
        num_hidden_layers=_first(config, "num_hidden_layers", "n_layer"),
        num_attention_heads=num_heads,
        num_key_value_heads=num_heads,
        head_dim=kv_channels,
        max_position_embeddings=_first(config, "max_position_embeddings", "n_positions", "seq_length"),
        rms_norm_eps=config["layer_norm_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": float(config.get("rotary_emb_base", 10_000))},
        tie_word_embeddings=False,
        seq_length=seq_length,
        use_dynamic_ntk=bool(config.get("use_dynamic_ntk", False)),
        use_logn_attn=bool(config.get("use_logn_attn", False)),
        use_window_attn=bool(config.get("use_window_attn", False)),
    )


def ntk_alpha(prompt_tokens: int, seq_length: int) -> float:
    """How much the rotary base is stretched for a prompt: 1 up to the training length, then 3, 7, 15 and so on."""
    return float(max(2 ** math.ceil(math.log2(prompt_tokens / seq_length) + 1) - 1, 1))


def layer_windows(num_layers: int, seq_length: int) -> list[int]:
    """How many tokens each layer sees back, itself included; 2048, 4096 and 8192 for a training length of 2048."""
    eighth = max(1, num_layers // 8)
    return [seq_length * (1 if layer < eighth else 2 if layer < 2 * eighth else 4) for layer in range(num_layers)]


def logn_scale(position_ids: torch.Tensor, seq_length: int) -> torch.Tensor:
    """By how much the queries at these positions (counted from 0, any shape) are multiplied; at least 1."""
    return (torch.log(position_ids.float() + 1) / math.log(seq_length)).clamp(min=1.0)


class Qwen1RotaryEmbedding(torch.nn.Module):
    """Rotary position embedding whose base may differ from row to row.

    Attributes:
        alpha: the stretch of each token, shape `(batch, length)` or one that broadcasts to it; set before every pass.
        greatest_alphas: the limits of the stretch, one for each kind of layer; [] for a single kind without a limit.
    """

    def __init__(self, config: Qwen1Config) -> None:
        super().__init__()
        self.greatest_alphas: list[float] = []
        self._base = dict(config.rope_parameters or {})["rope_theta"]
        self._dim = config.head_dim
        self.alpha = torch.ones(1, 1)

    @torch.no_grad()
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines, each `(batch, length, head_dim)`, in the dtype of `x`; a kind of layers goes before."""
        alpha = self.alpha.to(x.device, torch.float32)[..., None]
        if self.greatest_alphas:
            alpha = torch.stack([alpha.clamp(max=greatest) for greatest in self.greatest_alphas])
        base = self._base * alpha ** (self._dim / (self._dim - 2))
        exponents = torch.arange(0, self._dim, 2, device=x.device, dtype=torch.float32) / self._dim
        angles = position_ids[..., None].float() * base**-exponents
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


class Qwen1ForCausalLM(transformers.Qwen2ForCausalLM):
    """Qwen2 with Qwen-1's position embedding and, through its attention function, LogN."""

    config_class = Qwen1Config
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq", r"masked_bias", r"logn_tensor"]  # noqa: RUF012

    def __init__(self, config: Qwen1Config) -> None:
        config._attn_implementation = _ATTENTION
        super().__init__(config)
        self.model.rotary_emb = Qwen1RotaryEmbedding(config)
        if config.use_window_attn:
            for layer, window in zip(self.model.layers, self._windows, strict=True):
                layer.self_attn.sliding_window = window

    def give_layers_their_rotation(self) -> None:
        """With windows each layer takes the rotation that was computed for its kind; call it when all layers stand."""
        if not self.config.use_window_attn:
            return
        kinds = sorted(set(self._windows))
        self.model.rotary_emb.greatest_alphas = [ntk_alpha(window, self.config.seq_length) for window in kinds]
        for layer, window in zip(self.model.layers, self._windows, strict=True):
            layer.register_forward_pre_hook(partial(_choose_rotation, kinds.index(window)), with_kwargs=True)

    @property
    def _windows(self) -> list[int]:
        return layer_windows(self.config.num_hidden_layers, self.config.seq_length)

    def rope_alpha(self, prompt_tokens: int) -> float:
        """The stretch for a whole request: it follows from the prompt and stays while the answer grows."""
        if not self.config.use_dynamic_ntk:
            return 1.0
        longest = self._windows[-1] if self.config.use_window_attn else prompt_tokens
        return ntk_alpha(min(prompt_tokens, longest), self.config.seq_length)

    def query_scale(self, position_ids: torch.Tensor) -> torch.Tensor | None:
        """LogN's factor for queries at these positions, in their shape; None when it is off."""
        return logn_scale(position_ids, self.config.seq_length) if self.config.use_logn_attn else None

    def forward(self, *args: Any, rope_alpha: float | torch.Tensor = 1.0, **kwargs: Any) -> CausalLMOutputWithPast:
        """As Qwen2's; `rope_alpha` is one number or a tensor that broadcasts to `(batch, length)`."""
        alpha = torch.as_tensor(rope_alpha, dtype=torch.float32)
        self.model.rotary_emb.alpha = alpha if alpha.ndim else alpha.reshape(1, 1)
        return super().forward(*args, **kwargs)


def _choose_rotation(kind: int, _layer: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
    cos, sin = kwargs["position_embeddings"]
    return args, {**kwargs, "position_embeddings": (cos[kind], sin[kind])}


def _logn_attention(
    module: torch.nn.Module, query: torch.Tensor, *args: Any, position_ids: torch.Tensor, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """SDPA over queries `(batch, heads, length, head_dim)` that were scaled by the logarithm of their position.

    The rotation before it is linear, so scaling the rotated query is scaling the query.
    """
    config = cast(Qwen1Config, module.config)
    if config.use_logn_attn:
        scale = logn_scale(position_ids, config.seq_length)[:, None, :, None]
        query = query * scale.to(query.device, query.dtype)
    return sdpa_attention_forward(module, query, *args, **kwargs)


def _first(config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        if isinstance(config.get(name), int):
            return int(config[name])
    raise CheckpointUnsupported(f"config.json gives no {names[0]}. Fetch the checkpoint again.")


class _Repeat(ConversionOps):
    """Gives every target the same tensor: the three parts of a split matrix have the same inputs."""

    def convert(  # type: ignore[override]  # transformers' own operations return bare tensors, too
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        (tensors,) = input_dict.values()
        tensor = tensors[0] if isinstance(tensors, list) else tensors
        return {target: tensor.clone() for target in target_patterns}

    @property
    def reverse_op(self) -> ConversionOps:
        raise NotImplementedError("Qwen-1 checkpoints are read, not written")


ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, _logn_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(_ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
register_checkpoint_conversion_mapping(
    Qwen1ForCausalLM.__name__,
    [
        WeightRenaming(r"transformer\.wte", "model.embed_tokens"),
        WeightRenaming(r"transformer\.ln_f", "model.norm"),
        WeightRenaming(r"transformer\.h\.", "model.layers."),
        WeightRenaming(r"\.ln_1\.", ".input_layernorm."),
        WeightRenaming(r"\.ln_2\.", ".post_attention_layernorm."),
        WeightRenaming(r"\.attn\.c_proj", ".self_attn.o_proj"),
        WeightRenaming(r"\.mlp\.w1", ".mlp.up_proj"),
        WeightRenaming(r"\.mlp\.w2", ".mlp.gate_proj"),
        WeightRenaming(r"\.mlp\.c_proj", ".mlp.down_proj"),
        *(
            WeightConverter(
                f".attn.c_attn.{tensor}",
                [f".self_attn.{part}_proj.{tensor}" for part in ("q", "k", "v")],
                operations=[operation],
            )
            for tensor, operation in {
                "weight": Chunk(dim=0),
                "bias": Chunk(dim=0),
                "qweight": Chunk(dim=1),
                "qzeros": Chunk(dim=1),
                "scales": Chunk(dim=1),
                "g_idx": _Repeat(),
            }.items()
        ),
    ],
    overwrite=True,
)
