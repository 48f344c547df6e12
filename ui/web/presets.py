"""Settings with a name: some of ours, and those that the user has saved."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from model_loader.errors import InvalidSetting
from ui.chat.answer import ModelSource
from ui.chat.conversation import Settings
from ui.chat.conversations import Conversations
from ui.chat.refusal import Refused
from ui.web.access import View, checked_conversation, clean, notice
from ui.web.panel import NUM_SETTINGS, read_settings, settings_view
from ui.web.strings import Language, say
from ui.web.wiring import I18N, LIGHT, request_language

OUR_PRESETS = ("translator", "editor", "coder", "tutor")


class PresetHandlers:
    """What the menu of presets does."""

    def __init__(self, load: ModelSource, conversations: Conversations) -> None:
        self._load = load
        self._conversations = conversations

    def fill_in(self, request: gr.Request, view: View | None) -> Any:
        """The menu."""
        names = list(self._all(request_language(request), view))
        return gr.update(choices=names, value=None)

    def choose(self, request: gr.Request, name: Any, view: View | None) -> tuple[Any, ...]:
        """Takes the settings with this name for the conversation; returns the notice and the panel."""
        unchanged = tuple(gr.skip() for _ in range(NUM_SETTINGS + 1))
        language, chat_model = request_language(request), self._load.chat_model
        settings = self._all(language, view).get(name) if isinstance(name, str) else None
        if settings is None or chat_model is None:
            return "", *unchanged
        try:
            conversation = checked_conversation(self._conversations, view)
        except Refused as refused:
            return notice(language, refused), *unchanged
        conversation.settings = settings
        return "", *settings_view(chat_model, conversation)

    def save(self, request: gr.Request, name: Any, view: View | None, *settings: Any) -> tuple[str, Any]:
        """Keeps what the panel says under a name; returns the notice and the menu."""
        chat_model = self._load.chat_model
        try:
            checked_conversation(self._conversations, view)
            kept = read_settings(settings, chat_model) if chat_model is not None else None
            if kept is not None and isinstance(view, View):
                self._conversations.save_preset(view.owner, clean(name), kept)
        except (Refused, InvalidSetting) as error:
            return notice(request_language(request), error), gr.skip()
        return "", self._menu(request, view, clean(name))

    def forget(self, request: gr.Request, name: Any, view: View | None) -> tuple[str, Any]:
        """Forgets what the user has saved under a name; returns the notice and the menu."""
        if isinstance(view, View) and clean(name).strip():
            self._conversations.save_preset(view.owner, clean(name), None)
        return "", self._menu(request, view, None)

    def _menu(self, request: gr.Request, view: View | None, value: str | None) -> Any:
        return gr.update(choices=list(self._all(request_language(request), view)), value=value)

    def _all(self, language: Language, view: View | None) -> Mapping[str, Settings]:
        ours = {
            say(language, f"preset_{name}"): Settings(system=say(language, f"preset_{name}_system"))
            for name in OUR_PRESETS
        }
        own = self._conversations.presets(view.owner) if isinstance(view, View) else {}
        return {**ours, **own}


def lay_out_presets() -> dict[str, Any]:
    """The menu and its two buttons."""
    with gr.Row(elem_id="preset-row"):
        names = gr.Dropdown(
            label=I18N("presets"),
            info=I18N("presets_info"),
            choices=[],
            value=None,
            allow_custom_value=True,
            elem_id="presets",
        )
    with gr.Row(elem_id="preset-buttons"):
        save = gr.Button(I18N("save_preset"), size="sm", elem_id="save-preset")
        forget = gr.Button(I18N("forget_preset"), size="sm", elem_id="forget-preset")
    return {"names": names, "save": save, "forget": forget}


def wire_presets(
    parts: dict[str, Any], view: gr.State, said: gr.Markdown, panel: list[Any], reset: gr.Button,
    handlers: PresetHandlers,
) -> None:  # fmt: skip
    """Which event calls which handler; `parts` are those of `lay_out_presets`, `panel` the settings."""
    names = parts["names"]
    # not `input`: the menu says that again when it loses the focus, and would undo what was set in the meantime
    names.select(handlers.choose, [names, view], [said, *panel, reset], **LIGHT)
    parts["save"].click(handlers.save, [names, view, *panel], [said, names], **LIGHT)
    parts["forget"].click(handlers.forget, [names, view], [said, names], **LIGHT)
