"""Which of the ways to compute sequences a model is computed in."""

import logging

from model_loader.engine.batch_runner import BatchRunner
from model_loader.engine.gpu.paged_runner import PagedRunner
from model_loader.engine.runner import Runner
from model_loader.engine.slots import SlotPlan, plan_slots
from model_loader.engine.snapshot_runner import SnapshotRunner
from model_loader.loading.hardware import free_bytes, use_device
from model_loader.loading.load import LoadedModel

logger = logging.getLogger(__name__)


def choose_runner(loaded: LoadedModel, plan: SlotPlan | None = None) -> Runner:
    """The way in which a model's sequences are computed, tried out on a few tokens.

    Args:
        loaded: the model.
        plan: how many sequences at once; None divides what memory is free.
    """
    use_device(loaded.input_device)
    plan = plan or plan_slots(
        loaded.kv_bytes_per_token,
        free_bytes(loaded.placement.device),
        loaded.checkpoint.context_length,
        is_gpu=loaded.input_device.type != "cpu",
    )
    for kind in (PagedRunner, BatchRunner):
        if kind.supports(loaded):
            runner = kind(loaded, plan)
            try:
                runner.try_out()
            except Exception as error:
                # An architecture whose attention is not called the usual way, or a kernel that this machine has not;
                # Triton's errors have nothing in common but that.
                logger.info("%s is not for %s: %r", kind.__name__, type(loaded.model).__name__, error)
                runner.close()
            else:
                return runner
    alone = f"one answer at a time, because {type(loaded.model).__name__} cannot go back to an earlier token"
    return SnapshotRunner(loaded, SlotPlan(1, plan.max_tokens, alone))
