"""The models that may be chosen while the program runs: what each would need here, and the way to it.

It joins the catalog, the machine and the running load, and knows no user interface.
"""

from collections.abc import Callable
from functools import partial

from model_loader.background_load import BackgroundLoad
from model_loader.chat_model import ChatModel
from model_loader.checkpoint.catalog import find_entry
from model_loader.checkpoint.hub import HubOptions
from model_loader.checkpoint.resolve import BUILTIN_NAME
from model_loader.errors import InvalidSetting
from model_loader.loading.estimate import Estimate, estimate, estimate_all
from model_loader.loading.placement import Hardware, LoadOptions, with_freed
from model_loader.open_model import open_chat_model

_MAX_NAME_LENGTH = 300


class ModelMenu:
    """What may be chosen, and choosing it.

    Args:
        load: the model that runs now or is on its way.
        options: what the user asked of every placement.
        hub: where names are looked up.
    """

    def __init__(self, load: BackgroundLoad, options: LoadOptions, hub: HubOptions) -> None:
        self._load = load
        self._options = LoadOptions(options.precision, options.cpu_only)  # a window belongs to one model
        self._hub = hub

    @property
    def current(self) -> str:
        """The name of the model that runs; "" while none does."""
        chat_model = self._load.chat_model
        return chat_model.name if chat_model is not None else ""

    def estimates(self) -> list[Estimate]:
        """What the catalog's chat checkpoints would need once the running model has made room."""
        return estimate_all(self._hardware(), self._options)

    def estimate(self, name: str) -> Estimate | None:
        """What one checkpoint would need; None if it is not in the catalog."""
        entry = find_entry(name)
        return None if entry is None else estimate(entry, self._hardware(), self._options)

    def choose(self, name: str, make_way: Callable[[], object] = lambda: None) -> None:
        """Begins to load a catalog name, another hub name or a folder in the place of the running model.

        Args:
            name: of the model.
            make_way: is called once the name can be one, before the running model is closed.

        Raises:
            InvalidSetting: the name is empty or much too long, or a model is still being loaded.
        """
        name = name.strip()
        if not name or len(name) > _MAX_NAME_LENGTH:
            raise InvalidSetting(
                f"{name[:40]!r} is no model. Give a name such as Qwen/Qwen3-4B, a folder, or {BUILTIN_NAME}."
            )
        make_way()
        entry = find_entry(name)
        self._load.switch(partial(open_chat_model, entry.name if entry else name, self._options, hub=self._hub))

    def _hardware(self) -> Hardware:
        from model_loader.loading.hardware import probe_hardware  # imports torch

        hardware, chat_model = probe_hardware(), self._load.chat_model
        if not isinstance(chat_model, ChatModel):  # none yet, or one that computes elsewhere
            return hardware
        return with_freed(hardware, chat_model.checkpoint, chat_model.placement)
