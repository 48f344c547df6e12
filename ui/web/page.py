"""What is on the page, and which click calls which handler.

Only the Chatbot is written to while an answer streams, and it is never an input: the server knows the conversation,
a caller could forge it. Whatever changes with the conversation is part of the Chatbot's messages. `static/page.js`
turns clicks on them, the keyboard and other tabs into clicks on the hidden buttons here, with values in the hidden
boxes. No event has a `js` argument and nothing is a `gr.HTML`: both need `unsafe-eval`, which the page forbids.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ui.web.completion import CompletionHandlers, lay_out_completion, wire_completion
from ui.web.files import FileHandlers, lay_out_attach, lay_out_files, wire_files
from ui.web.fragments import fill
from ui.web.handlers import Handlers
from ui.web.history import HistoryHandlers, lay_out_history, wire_history
from ui.web.keys import lay_out_panel_foot, wire_keys
from ui.web.markdown import LATEX_DELIMITERS
from ui.web.meter import MeterHandlers
from ui.web.model_menu import ModelMenuHandlers, lay_out_model_menu, wire_model_menu
from ui.web.panel import MORE_SLIDERS, SLIDER_STEP, SLIDER_STEPS, SLIDERS, slider_range
from ui.web.presets import PresetHandlers, lay_out_presets, wire_presets
from ui.web.receipts import ReceiptHandlers
from ui.web.shield import shield_handlers
from ui.web.strings import STARTERS, say
from ui.web.transfer import TransferHandlers, wire_transfer
from ui.web.watch_strings import LANGUAGE_NAMES
from ui.web.wiring import I18N, LIGHT, STREAM


@dataclass(frozen=True)
class PageHandlers:
    """Everything that clicks on the page call. Without a `model_menu` the model cannot be exchanged from it."""

    conversation: Handlers
    history: HistoryHandlers
    meter: MeterHandlers
    presets: PresetHandlers
    receipts: ReceiptHandlers
    completion: CompletionHandlers
    transfer: TransferHandlers
    files: FileHandlers
    model_menu: ModelMenuHandlers | None = None


@dataclass(frozen=True)
class _Parts:
    """The components that events read and write."""

    view: gr.State
    owner: gr.Textbox
    conversation_id: gr.Textbox
    message_id: gr.Textbox
    action: gr.Textbox
    edited_id: gr.Textbox
    raw_text: gr.Textbox
    attached: gr.Markdown
    brand: gr.Markdown
    clear: gr.Button
    status: gr.Markdown
    starters: list[gr.Button]
    chatbot: gr.Chatbot
    undo_bar: gr.Row
    undo: gr.Button
    trashed: gr.Markdown
    storage: gr.Markdown
    notice: gr.Markdown
    meter: gr.Markdown
    chips: gr.Markdown
    files: dict[str, Any]
    receipt: gr.Markdown
    history: dict[str, Any]
    presets: dict[str, Any]
    box: gr.Textbox
    send: gr.Button
    stop: gr.Button
    card: gr.Markdown
    model_menu: dict[str, Any]
    filled_for: gr.Textbox
    system: gr.Textbox
    seed: gr.Number
    stop_strings: gr.Textbox
    prefill: gr.Textbox
    thinks: gr.Checkbox
    answer_in: gr.Radio
    stops_loops: gr.Checkbox
    sliders: list[gr.Slider]
    reset: gr.Button
    triggers: dict[str, gr.Button]
    completion: dict[str, Any]

    @property
    def settings(self) -> list[Any]:
        """The side panel as `read_settings` takes it."""
        steering = [self.system, self.seed, self.stop_strings, self.prefill, self.thinks]
        return [self.filled_for, *steering, self.answer_in, self.stops_loops, *self.sliders]


def build_page(handlers: PageHandlers, *, is_remote: bool = False) -> gr.Blocks:
    """The whole page; nothing in here takes time.

    Args:
        handlers: what its events do.
        is_remote: whether a server elsewhere answers; the page says so.
    """
    with gr.Blocks(title=say("en", "title"), fill_height=True, analytics_enabled=False) as page:
        parts = _lay_out(has_model_menu=handlers.model_menu is not None, is_remote=is_remote)
        attached = _wire_coming_and_going(page, parts, handlers.conversation)
        if handlers.model_menu is not None:
            wire_model_menu(
                attached,
                parts.model_menu,
                handlers.model_menu,
                lambda event: _watch_load(event, parts, handlers.conversation),
            )
        _wire_asking(parts, handlers.conversation)
        _wire_looking(parts, handlers.conversation)
        _wire_telling(parts, handlers)
        wire_files(parts.files, parts.view, parts.chips, parts.notice, handlers.files)
        wire_history(parts.history, parts.view, parts.trashed, parts.storage, handlers.history)
        wire_transfer(parts.history["transfer"], parts.view, parts.notice, parts.trashed, handlers.transfer)
        attached.then(handlers.presets.fill_in, parts.view, parts.presets["names"], **LIGHT)
        wire_presets(parts.presets, parts.view, parts.notice, parts.settings, parts.reset, handlers.presets)
        wire_completion(page, parts.completion, parts.settings, handlers.completion)
    shield_handlers(page)
    return page


def _lay_out(*, has_model_menu: bool, is_remote: bool) -> _Parts:
    hidden = _lay_out_hidden()
    history = lay_out_history()
    panel = _lay_out_panel(has_model_menu=has_model_menu)
    with gr.Column(elem_id="stage"):
        with gr.Row(elem_id="top"):
            brand = gr.Markdown(fill("brand", title=say("en", "title"), name="", state="loading"), elem_id="brand")
            with gr.Row(elem_id="modes"):
                gr.Button(I18N("mode_text"), elem_id="mode-text", size="sm")
                gr.Button(I18N("mode_chat"), elem_id="mode-chat", size="sm")
            clear = gr.Button(I18N("clear"), elem_id="clear", size="sm")
        status = gr.Markdown("", elem_id="status")
        storage = gr.Markdown("", elem_id="storage")
        with gr.Column(elem_id="welcome"):
            gr.Markdown(I18N("greeting"), elem_id="greeting")
            gr.Markdown(I18N("greeting_remote") if is_remote else I18N("greeting_more"), elem_id="greeting-more")
            with gr.Row(elem_id="starters"):
                starters = [gr.Button(I18N(key), elem_classes="starter", size="sm") for key in STARTERS]
        chatbot = gr.Chatbot(
            elem_id="chatbot",
            label=I18N("conversation"),
            show_label=False,
            container=False,
            height="100%",
            layout="bubble",
            buttons=[],
            autoscroll=False,
            latex_delimiters=LATEX_DELIMITERS,
            sanitize_html=True,
            allow_tags=False,
            feedback_options=None,
        )
        dock = _lay_out_dock()
        completion = lay_out_completion()
    receipt = gr.Markdown("", elem_id="receipt")
    wire_keys(
        panel.pop("show_keys"), gr.Markdown("", elem_id="keys"), gr.Button(visible="hidden", elem_id="keys-close")
    )
    tasks = ("refresh", "follow", "copy", "act", "earlier", "measure", "receipt", "reproduce", "source")
    triggers = {task: gr.Button(task, visible="hidden", elem_id=f"do-{task}") for task in tasks}
    return _Parts(
        brand=brand,
        clear=clear,
        status=status,
        starters=starters,
        chatbot=chatbot,
        storage=storage,
        receipt=receipt,
        files=lay_out_files(),
        history=history,
        triggers=triggers,
        completion=completion,
        **dock,
        **panel,
        **hidden,
    )


def _lay_out_hidden() -> dict[str, Any]:
    """What the page's script and the server tell one another."""
    boxes = ("owner", "conversation_id", "message_id", "action", "edited_id", "raw_text")
    return {
        "view": gr.State(None),
        # The conversation and the model whose settings the panel shows: in the browser like them, for they arrive after
        # it has turned to that one.
        "filled_for": gr.Textbox(visible="hidden", label="filled_for"),
        **{name: gr.Textbox(visible="hidden", elem_id=f"box-{name}", label=name) for name in boxes},
        "attached": gr.Markdown(visible="hidden", elem_id="attached"),
    }


def _lay_out_dock() -> dict[str, Any]:
    with gr.Column(elem_id="dock"):
        gr.Button(I18N("to_end"), elem_id="to-end", size="sm")
        with gr.Row(elem_id="undo-bar", visible=False) as undo_bar:
            gr.Markdown(I18N("cleared"))
            undo = gr.Button(I18N("undo"), elem_id="undo", size="sm")
        trashed = gr.Markdown("", elem_id="trashed")
        notice = gr.Markdown("", elem_id="notice")
        with gr.Row(elem_id="editing"):
            gr.Markdown(I18N("editing"))
            gr.Button(I18N("cancel"), elem_id="cancel-edit", size="sm")
        with gr.Row(elem_id="composer"):
            chips = gr.Markdown("", elem_id="files")
            lay_out_attach()
            box = gr.Textbox(
                lines=1,
                max_lines=10,
                label=I18N("message"),
                placeholder=I18N("placeholder"),
                show_label=False,
                container=False,
                elem_id="box",
                scale=1,
            )
            stop = gr.Button(I18N("stop"), elem_id="stop")
            send = gr.Button(I18N("send"), variant="primary", elem_id="send")
        meter = gr.Markdown("", elem_id="meter")
        gr.Markdown(I18N("hint"), elem_id="hint")
    return {
        "undo_bar": undo_bar,
        "undo": undo,
        "trashed": trashed,
        "notice": notice,
        "meter": meter,
        "chips": chips,
        "box": box,
        "stop": stop,
        "send": send,
    }


def _lay_out_panel(*, has_model_menu: bool) -> dict[str, Any]:
    with gr.Sidebar(I18N("settings"), position="right", open=False, width=340, elem_id="panel"):
        gr.Markdown(I18N("settings"), elem_classes="panel-title")
        card = gr.Markdown("", elem_id="card")
        model_menu = lay_out_model_menu() if has_model_menu else {}
        presets = lay_out_presets()
        system = gr.Textbox(
            label=I18N("system"), info=I18N("system_info"), lines=3, max_lines=10, interactive=False, elem_id="system"
        )
        answer_in = gr.Radio(
            [(I18N("language_free"), ""), *((name, language) for language, name in LANGUAGE_NAMES.items())],
            value="", label=I18N("answer_in"), info=I18N("answer_in_info"), interactive=False, elem_id="answer-in",
        )  # fmt: skip
        thinks = gr.Checkbox(label=I18N("thinks"), value=True, visible=False, interactive=False, elem_id="thinks")
        sliders = [_slider(name) for name in SLIDERS]
        seed = gr.Number(
            value=None,
            precision=0,
            minimum=0,
            label=I18N("seed"),
            info=I18N("seed_info"),
            interactive=False,
            elem_id="set-seed",
        )
        with gr.Accordion(I18N("more_settings"), open=False, elem_id="more-settings"):
            texts = [
                gr.Textbox(
                    label=I18N(name), info=I18N(f"{name}_info"), lines=2, max_lines=5, interactive=False,
                    elem_id=f"set-{name}",
                )
                for name in ("stop_strings", "prefill")
            ]  # fmt: skip
            sliders += [_slider(name) for name in MORE_SLIDERS]
            stops_loops = gr.Checkbox(
                label=I18N("stops_loops"), value=True, interactive=False, elem_id="stops-loops", container=False
            )
        reset = gr.Button(I18N("reset"), interactive=False, size="sm", elem_id="reset")
        show_keys = lay_out_panel_foot()
    return {
        "show_keys": show_keys,
        "card": card,
        "model_menu": model_menu,
        "presets": presets,
        "system": system,
        "thinks": thinks,
        "answer_in": answer_in,
        "stops_loops": stops_loops,
        "seed": seed,
        "stop_strings": texts[0],
        "prefill": texts[1],
        "sliders": sliders,
        "reset": reset,
    }


def _slider(name: str) -> gr.Slider:
    low, high = slider_range(name)
    return gr.Slider(
        low,
        high,
        value=low,
        step=SLIDER_STEPS.get(name, SLIDER_STEP),
        label=I18N(name),
        info=I18N(f"{name}_info"),
        interactive=False,
        elem_id=f"set-{name}",
        buttons=[],
    )


def _wire_coming_and_going(page: gr.Blocks, parts: _Parts, handlers: Handlers) -> Any:
    """Returns the event after which the page is there."""
    attached = parts.triggers["refresh"].click(
        handlers.attach,
        [parts.owner, parts.conversation_id],
        [parts.view, parts.attached, parts.undo_bar, parts.notice],
        trigger_mode="always_last",
        **LIGHT,
    )
    attached.then(handlers.follow, parts.view, parts.chatbot, **STREAM)
    # What Gradio lets a tab miss it gets with the next event that goes on: `followAgain` in page.js.
    parts.triggers["follow"].click(handlers.follow, parts.view, parts.chatbot, trigger_mode="multiple", **STREAM)
    _watch_load(attached, parts, handlers)
    page.unload(handlers.detach)
    return attached


def _watch_load(event: Any, parts: _Parts, handlers: Handlers) -> Any:
    """After an event: shows how far the load is, and then what the model is."""
    outputs = [parts.status, parts.brand, parts.card, *parts.settings, parts.reset]
    return event.then(handlers.watch_load, parts.view, outputs, **STREAM)


def _wire_asking(parts: _Parts, handlers: Handlers) -> None:
    view_and_settings = [parts.view, *parts.settings]
    asked = parts.send.click(
        handlers.ask,
        [parts.box, parts.edited_id, parts.files["draft"], *view_and_settings],
        [parts.box, parts.notice, parts.undo_bar, parts.chips, parts.edited_id],
        **LIGHT,
    )
    _show(asked, parts, handlers)
    for key, starter in zip(STARTERS, parts.starters, strict=True):
        ask_starter = handlers.asking(key)
        _show(starter.click(ask_starter, view_and_settings, [parts.notice, parts.undo_bar], **LIGHT), parts, handlers)
    parts.stop.click(handlers.stop, parts.view, None, **LIGHT)
    acted = parts.triggers["act"].click(
        handlers.act,
        [parts.action, parts.message_id, parts.files["draft"], parts.box, *view_and_settings],
        [parts.view, parts.attached, parts.undo_bar, parts.notice, parts.box, parts.chips, parts.filled_for],
        **LIGHT,
    )
    _show(acted, parts, handlers)
    changed = [slider.release for slider in parts.sliders] + [slider.input for slider in parts.sliders]
    changed += [parts.answer_in.input, parts.stops_loops.input]
    gr.on(
        [parts.system.blur, parts.seed.blur, parts.stop_strings.blur, parts.prefill.blur, parts.thinks.input, *changed],
        handlers.keep_settings,
        view_and_settings,
        parts.notice,
        trigger_mode="always_last",
        **LIGHT,
    )
    parts.reset.click(handlers.reset_settings, parts.view, [*parts.settings, parts.reset], **LIGHT)


def _wire_looking(parts: _Parts, handlers: Handlers) -> None:
    triggers = parts.triggers
    _show(parts.clear.click(handlers.clear, parts.view, [parts.undo_bar, parts.notice], **LIGHT), parts, handlers)
    _show(parts.undo.click(handlers.undo_clear, parts.view, parts.undo_bar, **LIGHT), parts, handlers)
    _show(triggers["earlier"].click(handlers.show_earlier, None, None, **LIGHT), parts, handlers)
    _show(triggers["source"].click(handlers.turn, [parts.message_id, parts.view], None, **LIGHT), parts, handlers)
    triggers["copy"].click(handlers.copy, [parts.message_id, parts.view], parts.raw_text, **LIGHT)


def _wire_telling(parts: _Parts, handlers: PageHandlers) -> None:
    """What is said about a question before it is sent and about an answer after it."""
    triggers = parts.triggers
    triggers["measure"].click(
        handlers.meter.measure,
        [parts.box, parts.edited_id, parts.files["draft"], parts.view, *parts.settings],
        parts.meter,
        trigger_mode="always_last",
        **LIGHT,
    )
    message = [parts.message_id, parts.view]
    triggers["receipt"].click(handlers.receipts.show, message, parts.receipt, **LIGHT)
    triggers["reproduce"].click(handlers.receipts.reproduce, message, parts.receipt, **STREAM)


def _show(changed: Any, parts: _Parts, handlers: Handlers) -> None:
    """After a change: shows the conversation while it moves."""
    changed.then(handlers.follow, parts.view, parts.chatbot, **STREAM)
