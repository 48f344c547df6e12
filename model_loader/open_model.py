"""Finds, places and loads a checkpoint and starts its engine: from what the user typed to a `ChatModel`.

Importing this module imports no torch; opening a model does.
"""

import sys
from dataclasses import replace

from model_loader.chat_format.messages import Message
from model_loader.chat_model import ChatModel
from model_loader.checkpoint.context_length import parse_long_context, set_context_length, switch_long_context
from model_loader.checkpoint.hub import ANY_HUB, HubOptions
from model_loader.checkpoint.resolve import Checkpoint, resolve_checkpoint
from model_loader.defaults import default_sampling
from model_loader.errors import NotEnoughMemory
from model_loader.loading.estimate import advise
from model_loader.loading.placement import LoadOptions, choose_placement
from model_loader.process_memory import settle
from model_loader.progress import LoadProgress, ReportProgress


def open_chat_model(
    checkpoint: str, options: LoadOptions, report: ReportProgress, *, hub: HubOptions = ANY_HUB
) -> ChatModel:
    """Finds, places and loads a checkpoint, and computes one token with it. Takes seconds to minutes.

    Args:
        checkpoint: a folder, a hub name or "builtin".
        options: what the user asks of the placement.
        report: told of every stage, from this thread.
        hub: where hub names are looked up.

    Raises:
        ModelLoaderError: one of its classes, as each step says.
    """
    report(LoadProgress("download"))
    resolved = resolve_checkpoint(
        checkpoint, lambda done, total: report(LoadProgress("download", done / total, _gb_of(done, total))), hub
    )
    default_sampling(resolved)  # raises for defaults that cannot be
    resolved = _with_context(resolved, options)
    report(LoadProgress("libraries"))
    is_first = "torch" not in sys.modules
    from model_loader.engine.engine import Engine  # torch and transformers: seconds
    from model_loader.loading.hardware import probe_hardware
    from model_loader.loading.load import load_model

    if is_first:
        settle()
    hardware = probe_hardware()
    try:
        placement = choose_placement(resolved, hardware, options)
    except NotEnoughMemory as error:
        raise NotEnoughMemory(f"{error}{advise(checkpoint, hardware, options)}") from None
    loaded = load_model(resolved, placement, report)
    engine = Engine(loaded)
    try:
        chat_model = ChatModel(loaded, engine)
        report(LoadProgress("warm_up"))
        _warm_up(chat_model)
    except BaseException:
        engine.close()
        raise
    return chat_model


def _with_context(checkpoint: Checkpoint, options: LoadOptions) -> Checkpoint:
    """The checkpoint with the window that the options ask for."""
    config = checkpoint.config
    if options.long_context is not None:
        config = switch_long_context(config, parse_long_context(options.long_context))
    if options.context_length is None:
        return replace(checkpoint, config=config)
    defaults = {name: value for name, value in checkpoint.generation_config.items() if name != "max_window_size"}
    return replace(checkpoint, config=set_context_length(config, options.context_length), generation_config=defaults)


def _warm_up(chat_model: ChatModel) -> None:
    """One greedy token: the first pass is the slowest, and weights that compute no numbers show at once."""
    greedy = chat_model.default_sampling.changed(max_new_tokens=1, temperature=0.0)
    for _event in chat_model.stream([Message("user", "Hello")], greedy):
        pass


def _gb_of(done: int, total: int) -> str:
    return f"{done / 1e9:.1f} of {total / 1e9:.1f} GB"
