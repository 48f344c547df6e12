"""The optimizer of the matrices: momentum whose every singular value is made about one (Muon).

It learns as much from a token as AdamW does from nearly two (measured on this corpus), which counts where training
has to fit into minutes on a CPU. Sources: K. Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural
networks" (iteration and its constants); J. Liu et al. 2025, "Muon is scalable for LLM training" (the factor that lets
it share AdamW's learning rate). torch's own Muon iterates in bfloat16, which a CPU does at half the speed.
"""

from collections.abc import Callable, Iterable
from typing import overload

import torch

_ITERATION = (3.4445, -4.7750, 2.0315)
_NUM_ITERATIONS = 5
_ADAMW_RMS = 0.2
"""Root mean square of a typical AdamW update at learning rate 1."""


class Muon(torch.optim.Optimizer):
    """Muon for two-dimensional parameters.

    Args:
        parameters: matrices of hidden layers; embeddings and vectors belong to AdamW.
        lr: learning rate, on AdamW's scale.
        momentum: share of the old momentum that is kept in each step.
        weight_decay: decoupled, as in AdamW.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Changes every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalised(parameter.grad.lerp(momentum, group["momentum"]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * _ADAMW_RMS * max(parameter.shape) ** 0.5)
        return loss


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix with its singular values moved near one (0.7 to 1.2), by a quintic Newton-Schulz iteration."""
    a, b, c = _ITERATION
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_NUM_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if is_tall else x
