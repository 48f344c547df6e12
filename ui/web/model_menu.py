"""The part of the side panel that exchanges the model: a list of names, what the chosen one needs, a button.

What comes in is a `ModelMenu`; it is laid out and wired only where the page may exchange the model.
"""

import asyncio
from functools import partial
from typing import Any

import gradio as gr

from model_loader.errors import InvalidSetting
from model_loader.loading.estimate import Estimate
from model_loader.model_menu import ModelMenu
from ui.chat.answer import ModelSource
from ui.chat.answers import Answers
from ui.web.fragments import fill
from ui.web.strings import Language, say
from ui.web.wiring import I18N, LIGHT, STREAM, request_language

_ANSWERS_END_S = 3.0
_LOOK_S = 0.25


class ModelMenuHandlers:
    """What the menu's events do."""

    def __init__(self, load: ModelSource, menu: ModelMenu, answers: Answers) -> None:
        self._load = load
        self._menu = menu
        self._answers = answers

    async def fill_in(self, request: gr.Request) -> tuple[Any, str, Any]:
        """The list, what is needed for the model that runs, and the button; after the load has ended."""
        while self._load.chat_model is None and self._load.error is None:
            await asyncio.sleep(_LOOK_S)
        language = request_language(request)
        estimates = await asyncio.to_thread(self._menu.estimates)  # asks the machine
        choices = [("builtin", "builtin"), *((_label(language, each), each.entry.name) for each in estimates)]
        current = self._menu.current
        if current and current not in [name for _label_, name in choices]:
            choices.insert(0, (current, current))
        return gr.update(choices=choices, value=current or None, interactive=True), "", gr.update(interactive=True)

    def describe(self, name: Any, request: gr.Request) -> str:
        """What the chosen model would need; returns the note."""
        if not isinstance(name, str) or not name or name in ("builtin", self._menu.current):
            return ""
        estimate = self._menu.estimate(name)
        language = request_language(request)
        if estimate is None:
            return fill("model_note", kind="unknown", text=say(language, "model_unknown"))
        kind = "fits" if estimate.fits else "too-large"
        return fill("model_note", kind=kind, text=_sentence(language, estimate))

    def choose(self, name: Any, request: gr.Request) -> tuple[str, Any]:
        """Ends the running answers and begins to load the chosen model; returns the note and the button."""
        try:
            make_way = partial(self._answers.interrupt_all, _ANSWERS_END_S)
            self._menu.choose(name if isinstance(name, str) else "", make_way)
        except InvalidSetting as error:
            return fill("model_note", kind="too-large", text=str(error)), gr.skip()
        return "", gr.update(interactive=False)


def lay_out_model_menu() -> dict[str, Any]:
    """The menu's components, by name."""
    with gr.Column(elem_id="model-menu"):
        names = gr.Dropdown(
            choices=[],
            value=None,
            allow_custom_value=True,
            filterable=True,
            label=I18N("model_menu"),
            info=I18N("model_menu_info"),
            interactive=False,
            elem_id="model-names",
        )
        note = gr.Markdown("", elem_id="model-note")
        switch = gr.Button(I18N("switch"), interactive=False, size="sm", elem_id="model-switch")
    return {"names": names, "note": note, "switch": switch}


def wire_model_menu(attached: Any, components: dict[str, Any], handlers: ModelMenuHandlers, watch: Any) -> None:
    """Fills the menu when the page has come up and exchanges the model at a click.

    Args:
        attached: the event after which the page is there.
        components: of `lay_out_model_menu`.
        handlers: what events do.
        watch: continues an event by showing the load, as a function of that event.
    """
    names, note, switch = components["names"], components["note"], components["switch"]
    attached.then(handlers.fill_in, None, [names, note, switch], **STREAM)
    names.change(handlers.describe, names, note, **LIGHT)
    chosen = switch.click(handlers.choose, names, [note, switch], **LIGHT)
    watch(chosen).then(handlers.fill_in, None, [names, note, switch], **STREAM)


def _label(language: Language, estimate: Estimate) -> str:
    name = estimate.entry.name.removeprefix("Qwen/")
    if not estimate.fits:
        too_large = say(language, "too_large")
        return f"{name} · {too_large} ({_gb(estimate.weight_bytes)})"
    assert estimate.placement is not None
    return f"{name} · {_gb(estimate.weight_bytes)} {estimate.placement.quantization or estimate.placement.dtype}"


def _sentence(language: Language, estimate: Estimate) -> str:
    licence = estimate.entry.licence
    if not estimate.fits:
        return say(language, "model_does_not_fit", reason=estimate.reason, licence=licence)
    size, context = _gb(estimate.weight_bytes), f"{estimate.entry.context:,}"
    return say(language, "model_fits", size=size, reason=estimate.reason, context=context, licence=licence)


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
