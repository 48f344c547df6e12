"""What a checkpoint's files say about how it answers: its sampling, the ids that end an answer, whether it chats."""

from model_loader.checkpoint.resolve import Checkpoint
from model_loader.engine.request import DEFAULT_MAX_NEW_TOKENS, SAMPLING_RANGES, Sampling
from model_loader.errors import CheckpointDamaged, InvalidSetting


def default_sampling(checkpoint: Checkpoint) -> Sampling:
    """The sampling that a checkpoint's generation config asks for; what it leaves open changes nothing.

    The length is capped so that half of a small window stays free for the conversation.

    Raises:
        CheckpointDamaged: a value is out of range.
    """
    config = checkpoint.generation_config
    given = {name: config[name] for name in SAMPLING_RANGES if config.get(name) is not None}
    if not config.get("do_sample", False):
        given["temperature"] = 0.0
    longest = max(1, min(DEFAULT_MAX_NEW_TOKENS, checkpoint.context_length // 2))
    try:
        sampling = Sampling(**{"max_new_tokens": longest, **given})
    except InvalidSetting as error:
        raise CheckpointDamaged(f"{checkpoint.folder / 'generation_config.json'}: {error}") from None
    return sampling.changed(max_new_tokens=min(sampling.max_new_tokens, longest))


def is_completion_model(checkpoint: Checkpoint, im_end_id: int | None) -> bool:
    """Whether the files describe a base model: Qwen-1 says so, later families let `<|im_end|>` end only a chat."""
    chat_format = checkpoint.generation_config.get("chat_format")
    if chat_format is not None:
        return bool(chat_format == "raw")
    return im_end_id not in eos_ids(checkpoint)


def eos_ids(checkpoint: Checkpoint) -> frozenset[int]:
    """The ids that end an answer, as the files say."""
    value = checkpoint.generation_config.get("eos_token_id", checkpoint.config.get("eos_token_id"))
    return frozenset(value if isinstance(value, list) else [] if value is None else [value])
