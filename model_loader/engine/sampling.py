"""Draws the next tokens from a model's logits, for all sequences of a step together.

The order of the steps is transformers': penalties, temperature, top-k, top-p, min-p. One uniform random number per
token decides, so a request draws the same numbers whoever else is served beside it.
"""

import functools
import secrets
from collections.abc import Sequence

import torch

from model_loader.engine.request import Logprob, Request, Sampling
from model_loader.errors import GenerationFailed

LIKELIEST = 256
"""So many of the likeliest tokens almost always hold the nucleus; sorting all would take longer than a small model."""


class InvalidNumbers(GenerationFailed):
    """The model computed something that is no number: the weights or their format are wrong."""

    def __init__(self) -> None:
        super().__init__(
            "The model computed invalid numbers. Try --precision fp32; if that does not help, its weights are damaged."
        )


class Sampler:
    """The sampling state of one request: its settings, its random numbers and what it has said.

    Attributes:
        answer_ids: the ids sampled so far.
        is_greedy: whether the likeliest token is taken every time.
    """

    def __init__(self, request: Request) -> None:
        self.answer_ids: list[int] = []
        self.request = request
        self.sampling = request.sampling
        self.is_greedy = request.sampling.temperature == 0
        seed = secrets.randbits(63) if self.sampling.seed is None else self.sampling.seed
        self._random = torch.Generator().manual_seed(seed)
        self._seen: set[int] = set()
        self._seen_ids = torch.empty(0, dtype=torch.long)
        self._num_looked_at = 0

    @property
    def is_plain(self) -> bool:
        """Whether `adjust` changes nothing."""
        sampling, request = self.sampling, self.request
        penalizes = sampling.presence_penalty or sampling.frequency_penalty or sampling.repetition_penalty != 1.0
        return not (penalizes or request.logit_bias or request.token_filter is not None)

    def next_uniform(self) -> float:
        """The next random number, 0 <= it < 1."""
        return torch.rand((), generator=self._random, dtype=torch.float64).item()

    def adjust(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits `(vocab,)` after penalties, bias and filter; the same tensor if they change nothing."""
        sampling = self.sampling
        if sampling.repetition_penalty != 1.0:
            logits = penalize_repetition(logits, self._look_at_seen(logits.device), sampling.repetition_penalty)
        if (sampling.presence_penalty or sampling.frequency_penalty) and self.answer_ids:
            ids, counts = torch.tensor(self.answer_ids, device=logits.device).unique(return_counts=True)
            penalty = sampling.presence_penalty + sampling.frequency_penalty * counts
            logits = logits.index_add(0, ids, -penalty.to(logits.dtype))
        if self.request.logit_bias:
            ids = torch.tensor(list(self.request.logit_bias), device=logits.device)
            bias = torch.tensor(list(self.request.logit_bias.values()), device=logits.device, dtype=logits.dtype)
            logits = logits.index_add(0, ids, bias)
        if self.request.token_filter is not None and (allowed := self.request.token_filter(self.answer_ids)) != -1:
            allowed &= (1 << len(logits)) - 1
            if not allowed:
                raise GenerationFailed("The grammar allows no token here. Check the schema that was asked for.")
            logits = torch.where(unpack_bits(allowed, len(logits), logits.device), logits, -torch.inf)
        return logits

    def _look_at_seen(self, device: torch.device) -> torch.Tensor:
        """Every id of prompt and answer, once each; only what has come since the last time is looked at."""
        said = self.answer_ids[self._num_looked_at :] if self._seen else [*self.request.prompt_ids, *self.answer_ids]
        self._num_looked_at = len(self.answer_ids)
        fresh = [each for each in dict.fromkeys(said) if each not in self._seen]
        if fresh:
            self._seen.update(fresh)
            self._seen_ids = torch.cat([self._seen_ids.to(device), torch.tensor(fresh, device=device)])
        return self._seen_ids


def unpack_bits(bits: int, num_bits: int, device: torch.device) -> torch.Tensor:
    """Whether each bit is set, lowest first: booleans of shape `(num_bits,)`."""
    octets = torch.frombuffer(bytearray(bits.to_bytes(-(-num_bits // 8), "little")), dtype=torch.uint8)
    return _unpacked_bytes(device).index_select(0, octets.to(device).int()).view(torch.bool)[:num_bits]


@functools.cache
def _unpacked_bytes(device: torch.device) -> torch.Tensor:
    """The eight booleans of each byte as one number, `(256,)`: looking them up is quicker than shifting."""
    is_set = torch.arange(256)[:, None] >> torch.arange(8) & 1 == 1
    return is_set.view(torch.int64)[:, 0].to(device)


def penalize_repetition(logits: torch.Tensor, seen_ids: torch.Tensor, penalty: float) -> torch.Tensor:
    """Makes ids that were seen less likely; `logits` has shape `(vocab,)`, `seen_ids` names each id once.

    Source: Keskar et al. 2019, arXiv:1909.05858, section 4.1; negative logits are multiplied instead of divided.
    """
    seen = logits[seen_ids]
    return logits.index_copy(0, seen_ids, torch.where(seen > 0, seen / penalty, seen * penalty))


def sample(logits: torch.Tensor, samplers: Sequence[Sampler]) -> list[int | Exception]:
    """The next id of each sequence.

    Args:
        logits: `(sequences, vocab)`.
        samplers: their states; each remembers its new id.

    Returns:
        Of each sequence its id, or why it can have none: `InvalidNumbers`, or whatever its filter raised.
    """
    rows = (logits.cpu() if logits.device.type == "mps" else logits).float()  # Apple's GPU has no float64
    failures: dict[int, Exception] = {}
    for place, sampler in enumerate(samplers):
        if sampler.is_plain:
            continue
        try:
            row = rows[place]
            adjusted = sampler.adjust(row)
        except Exception as failure:  # a filter is somebody else's code
            failures[place] = failure
            continue
        if adjusted is not row:
            rows = rows.clone() if rows is logits else rows
            rows[place] = adjusted
    highest, chosen = rows.max(dim=-1)  # a row that holds a NaN has it as its maximum
    drawn = [place for place, sampler in enumerate(samplers) if not sampler.is_greedy]
    if drawn:
        uniforms = [samplers[place].next_uniform() for place in drawn]
        chosen[drawn] = draw(rows[drawn], [samplers[place].sampling for place in drawn], uniforms)
    ids, is_finite = torch.stack([chosen, torch.isfinite(highest).long()]).tolist()
    return settle(samplers, ids, is_finite, failures)


def settle(
    samplers: Sequence[Sampler], ids: Sequence[int], is_finite: Sequence[int], failures: dict[int, Exception]
) -> list[int | Exception]:
    """Has each sampler remember its new id; the results as `sample` returns them."""
    results: list[int | Exception] = []
    for place, sampler in enumerate(samplers):
        if not is_finite[place]:
            failures.setdefault(place, InvalidNumbers())
        if place in failures:
            results.append(failures[place])
        else:
            sampler.answer_ids.append(ids[place])
            results.append(ids[place])
    return results


def draw(logits: torch.Tensor, samplings: Sequence[Sampling], uniforms: Sequence[float]) -> torch.Tensor:
    """The ids at which the probabilities, likeliest first, add up to more than the random numbers.

    Args:
        logits: `(sequences, vocab)`, float32.
        samplings: one of each sequence.
        uniforms: likewise, 0 <= each < 1.

    Returns:
        `(sequences,)`.
    """
    vocab_size = logits.shape[-1]
    settings = torch.tensor(settings_of(samplings, uniforms, vocab_size), dtype=torch.float64, device=logits.device)
    # Usually every request limits itself to its likeliest tokens, and then no other has to be looked at.
    are_limited = all(0 < each.top_k < vocab_size for each in samplings)
    num_likeliest = min(vocab_size, max(0 if are_limited else LIKELIEST, *(each.top_k for each in samplings)))
    ids, is_certain = choose(logits, settings, num_likeliest, are_limited=are_limited)
    if not are_limited and num_likeliest < vocab_size and not bool(is_certain.all()):
        ids, _ = choose(logits, settings, vocab_size, are_limited=False)  # a wider nucleus: sort all
    return ids


def settings_of(samplings: Sequence[Sampling], uniforms: Sequence[float], vocab_size: int) -> list[list[float]]:
    """Temperatures, top-k, top-p, min-p and random numbers as `choose` takes them, before they are a tensor."""
    return [
        [each.temperature for each in samplings],
        [each.top_k or vocab_size for each in samplings],
        [each.top_p for each in samplings],
        [each.min_p for each in samplings],
        list(uniforms),
    ]


def choose(
    logits: torch.Tensor, settings: torch.Tensor, num_likeliest: int, *, are_limited: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws among the likeliest tokens, without a word to the processor.

    Nucleus (top-p) sampling: Holtzman et al. 2019, arXiv:1904.09751; the token that crosses top_p stays.

    Args:
        logits: `(sequences, vocab)`, float32.
        settings: `(5, sequences)` in float64, as `settings_of` says.
        num_likeliest: how many tokens are looked at.
        are_limited: whether no sequence's top-k is larger than that.

    Returns:
        The ids, `(sequences,)`, and whether each is what all tokens would have given.
    """
    temperature, top_k, top_p, min_p, uniform = settings.unsqueeze(-1).unbind(0)
    scaled = logits / temperature.float()
    top_logits, top_ids = scaled.topk(num_likeliest)
    is_candidate = torch.arange(num_likeliest, device=logits.device) < top_k
    total = top_logits.double().masked_fill(~is_candidate, -torch.inf).logsumexp(-1, keepdim=True)
    if not are_limited:
        total = torch.where(top_k < logits.shape[-1], total, scaled.double().logsumexp(-1, keepdim=True))
    probabilities = (top_logits.double() - total).exp()
    cumulative = probabilities.cumsum(dim=-1)
    is_kept = is_candidate & (cumulative - probabilities < top_p) & (probabilities >= min_p * probabilities[:, :1])
    num_kept = is_kept.sum(dim=-1, keepdim=True).clamp(min=1)  # where nothing is a number
    is_whole = (top_p == 1.0) & (min_p == 0.0)
    is_certain = (num_kept < num_likeliest) | (is_whole & (cumulative[:, -1:] > uniform))
    is_certain &= (top_k <= num_likeliest) | (top_k >= logits.shape[-1])
    mass = torch.where(is_whole, 1.0, cumulative.gather(-1, num_kept - 1))
    place = torch.searchsorted(cumulative, uniform * mass, right=True)
    return top_ids.gather(-1, torch.minimum(place, num_kept - 1))[:, 0], is_certain[:, 0]


def logprobs(logits: torch.Tensor, ids: Sequence[int], num_top: int) -> list[Logprob]:
    """How likely one id for each row of the logits `(tokens, vocab)` was, and the `num_top` likeliest beside it."""
    scores = logits.float().log_softmax(dim=-1)
    own = scores.gather(-1, torch.tensor(ids, device=scores.device)[:, None])[:, 0].tolist()
    values, top_ids = scores.topk(num_top)
    return [
        Logprob(logprob, tuple(zip(*top, strict=True)))
        for logprob, *top in zip(own, top_ids.tolist(), values.tolist(), strict=True)
    ]
