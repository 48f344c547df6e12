"""What can go wrong between a checkpoint name and an answer: one class for each remedy.

Every message is one paragraph for the user: what was asked (with its value), what was found (a number and a unit)
and what to do about it. Front ends show the message as it is; anything that is not a `ModelLoaderError` is a fault
of ours and is logged instead.
"""


class ModelLoaderError(Exception):
    """The base of every error below; `str()` of it may be shown to a user."""


class CheckpointNotFound(ModelLoaderError):
    """No folder, repository or served model has the name, or the hub cannot be reached. Remedy: another name."""


class HubUnreachable(CheckpointNotFound):
    """A hub does not answer, and no cache holds the checkpoint. Remedy: the connection, or another hub."""


class NotEnoughDisk(ModelLoaderError):
    """A download does not fit on the disk. Remedy: make room, or another folder for the cache."""


class CheckpointUnsupported(ModelLoaderError):
    """The checkpoint is whole, but this application cannot run its kind. Remedy: another checkpoint."""


class CheckpointDamaged(ModelLoaderError):
    """A file of the checkpoint is missing, unreadable or contradicts another. Remedy: fetch the checkpoint again."""


class NotEnoughMemory(ModelLoaderError):
    """The weights do not fit. Remedy: one of the choices that the message names."""


class InvalidSetting(ModelLoaderError, ValueError):
    """An option or a sampling setting is outside its range. Remedy: a value inside the range that the message names."""


class ContextLengthExceeded(ModelLoaderError):
    """The prompt and the room asked for its answer are longer than the model's window. Remedy: send less.

    Attributes:
        prompt_tokens: length of the prompt, in tokens; 0 where a server elsewhere has refused it without a number.
        max_new_tokens: room asked for the answer, in tokens.
        context_length: the model's window, in tokens.
    """

    def __init__(self, prompt_tokens: int, max_new_tokens: int, context_length: int) -> None:
        self.prompt_tokens = prompt_tokens
        self.max_new_tokens = max_new_tokens
        self.context_length = context_length
        taken = f"{prompt_tokens:,} tokens" if prompt_tokens else "too many tokens"
        super().__init__(
            f"The conversation takes {taken} and {max_new_tokens:,} are asked for the answer, but the "
            f"model reads {context_length:,} at most. Shorten the question or ask for a shorter answer."
        )


class EngineStopped(ModelLoaderError):
    """The engine was closed or has failed while a request was running or waiting. Remedy: start it again."""


class GenerationFailed(ModelLoaderError):
    """One request failed in the engine or on its way from a server elsewhere; others go on. Remedy: ask again."""


class ServerUnreachable(ModelLoaderError):
    """No connection to a server elsewhere comes about. Remedy: start it, or correct its address."""


class ServerRefusesKey(ModelLoaderError):
    """A server elsewhere wants another key than it was shown, or one at all. Remedy: the right key."""


class ServerBusy(ModelLoaderError):
    """A server elsewhere has no room for a request now. Remedy: ask again later."""


class ServerIncompatible(ModelLoaderError):
    """What answers is no server of OpenAI's API, or lacks a part of it. Remedy: another address or server."""
