"""How many parameters a transformer of a shape has, and how many bytes one token's keys and values take.

Pure arithmetic over the sizes that a `config.json` names; the varieties are those of transformers' Qwen classes.
"""

from dataclasses import dataclass
from typing import Literal

Architecture = Literal["qwen", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "qwen3_5", "qwen3_5_moe"]


@dataclass(frozen=True, slots=True)
class Experts:
    """The feed-forward part of a mixture of experts.

    Attributes:
        number: of experts in each layer.
        size: intermediate size of one of them.
        shared_size: intermediate size of the expert that every token passes; 0 for none.
    """

    number: int
    size: int
    shared_size: int = 0


@dataclass(frozen=True, slots=True)
class LinearAttention:
    """The gated delta rule of Qwen3-Next and later: three layers of it for each with keys and values.

    Attributes:
        key_heads, value_heads: of 128 channels each.
    """

    key_heads: int
    value_heads: int


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a language model.

    Attributes:
        architecture: `model_type` of its `config.json`.
        layers: how many.
        hidden: width between them.
        heads, kv_heads, head_dim: of the attention.
        feed_forward: intermediate size; 0 where only experts are.
        vocab: rows of the embedding.
        is_tied: whether the last layer shares the embedding's weight.
        experts: None for a dense model.
        linear: None where every layer has keys and values.
    """

    architecture: Architecture
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocab: int
    is_tied: bool = False
    experts: Experts | None = None
    linear: LinearAttention | None = None

    @property
    def embedding_parameters(self) -> int:
        """Of the embedding alone."""
        return self.vocab * self.hidden

    @property
    def linear_parameters(self) -> int:
        """Of the layers, norms and biases included: what quantization rounds, nearly."""
        full = self.layers if self.linear is None else self.layers // 4
        attention = full * self._attention_parameters() + (self.layers - full) * self._linear_attention_parameters()
        norms = self.layers * 2 * self.hidden + self.hidden
        return attention + self.layers * self._feed_forward_parameters() + norms

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.linear_parameters + self.embedding_parameters * (1 if self.is_tied else 2)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of one token's keys and values in 16 bits, in all layers."""
        layers = self.layers if self.linear is None else self.layers // 4
        return 2 * layers * self.kv_heads * self.head_dim * 2

    def _attention_parameters(self) -> int:
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        is_gated = self.linear is not None
        matrices = self.hidden * (query * (2 if is_gated else 1) + 2 * key) + query * self.hidden
        if self.architecture in ("qwen", "qwen2", "qwen2_moe"):
            return matrices + query + 2 * key  # biases
        return matrices + 2 * self.head_dim  # norms of queries and keys

    def _linear_attention_parameters(self) -> int:
        if self.linear is None:
            return 0
        head_dim, kernel = 128, 4
        key, value = self.linear.key_heads * head_dim, self.linear.value_heads * head_dim
        projections = self.hidden * (2 * key + 2 * value + 2 * self.linear.value_heads) + value * self.hidden
        return projections + (2 * key + value) * kernel + 2 * self.linear.value_heads + head_dim

    def _feed_forward_parameters(self) -> int:
        if self.experts is None:
            return 3 * self.hidden * self.feed_forward
        router = self.hidden * self.experts.number
        shared = 3 * self.hidden * self.experts.shared_size + (self.hidden if self.experts.shared_size else 0)
        return router + shared + 3 * self.hidden * self.experts.size * self.experts.number
