"""Draws the next token from a model's logits.

The order of the steps is transformers': repetition penalty, temperature, top-k, top-p. One uniform random number per
token decides, so a request draws the same numbers whoever else is served beside it.
"""

import secrets

import torch

from model_loader.engine.request import Sampling
from model_loader.errors import GenerationFailed


class Sampler:
    """The sampling state of one request: its settings, its random numbers and which ids have been seen."""

    def __init__(self, sampling: Sampling, prompt_ids: torch.Tensor, vocab_size: int) -> None:
        """`prompt_ids` has shape `(prompt_tokens,)`, on the device of the logits to come."""
        self._sampling = sampling
        seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
        self._random = torch.Generator().manual_seed(seed)
        self._seen = torch.zeros(vocab_size, dtype=torch.bool, device=prompt_ids.device)
        self._seen[prompt_ids] = True

    def next_id(self, logits: torch.Tensor) -> int:
        """The next token id from logits of shape `(vocab,)`.

        Raises:
            GenerationFailed: the logits are not numbers, which means that the weights or their format are wrong.
        """
        logits = penalize_repetition(logits.float(), self._seen, self._sampling.repetition_penalty)
        if not bool(torch.isfinite(logits).any()) or bool(torch.isnan(logits).any()):
            raise GenerationFailed(
                "The model computed invalid numbers. Try --precision fp32; if that does not help, its weights are "
                "damaged."
            )
        if self._sampling.temperature == 0:
            chosen = int(logits.argmax())
        else:
            uniform = torch.rand((), generator=self._random, dtype=torch.float64).item()
            chosen = draw(logits, self._sampling, uniform)
        self._seen[chosen] = True
        return chosen


def penalize_repetition(logits: torch.Tensor, seen: torch.Tensor, penalty: float) -> torch.Tensor:
    """Makes ids that were seen less likely; `logits` and the mask `seen` have shape `(vocab,)`.

    Source: Keskar et al. 2019, arXiv:1909.05858, section 4.1; negative logits are multiplied instead of divided.
    """
    if penalty == 1.0:
        return logits
    penalized = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, penalized, logits)


def draw(logits: torch.Tensor, sampling: Sampling, uniform: float) -> int:
    """The id at which the probabilities, likeliest first, add up to more than `uniform` (0 <= uniform < 1).

    Nucleus (top-p) sampling: Holtzman et al. 2019, arXiv:1904.09751; the token that crosses top_p stays.
    """
    vocab_size = logits.shape[-1]
    kept = min(sampling.top_k, vocab_size) if sampling.top_k else vocab_size
    top_logits, top_ids = torch.topk(logits / sampling.temperature, kept)
    cumulative = torch.softmax(top_logits.double(), dim=-1).cumsum(dim=-1)
    if sampling.top_p < 1.0:
        in_nucleus = int(torch.searchsorted(cumulative, sampling.top_p)) + 1
        cumulative = cumulative[: min(in_nucleus, kept)]
    position = int(torch.searchsorted(cumulative, uniform * float(cumulative[-1]), right=True))
    return int(top_ids[min(position, cumulative.shape[-1] - 1)])
