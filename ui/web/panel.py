"""The side panel and the load's progress: what the model is, how it answers, how far it has come.

What comes in is a load and a conversation's settings; what goes out are values for the panel's components, in the
order in which `page` lists them. It knows no events.
"""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, get_args

import gradio as gr

from model_loader.chat_source import ChatSource
from model_loader.engine.request import SAMPLING_RANGES
from model_loader.errors import InvalidSetting
from model_loader.progress import LoadProgress
from ui.chat.answer import ModelSource
from ui.chat.conversation import Conversation, Settings
from ui.chat.script_watch import AnswerLanguage
from ui.web.access import clean
from ui.web.error_strings import error_text
from ui.web.fragments import Fragment, fill
from ui.web.strings import Language, say

SLIDERS = ("temperature", "top_p", "top_k", "max_new_tokens")
MORE_SLIDERS = ("repetition_penalty", "min_p", "presence_penalty", "frequency_penalty")
ALL_SLIDERS = SLIDERS + MORE_SLIDERS
SLIDER_STEPS = {"temperature": 0.05, "top_k": 1, "max_new_tokens": 1}
SLIDER_STEP = 0.01
NUM_SETTINGS = len(ALL_SLIDERS) + 8
"""What `settings_view` gives before the reset button: the id of their conversation, system prompt, seed, stop strings,
beginning, thinking, language, whether loops are stopped, sliders."""
_MAX_STOP_STRINGS = 16
_MAX_STOP_CHARS = 200
_MAX_PREFILL_CHARS = 4_000
_WHOLE = ("top_k", "max_new_tokens", "seed")
_SLIDER_HIGHS = {"top_k": 200.0}  # the range's own end would leave no room for the values people use
_NO_STATUS = ""
_NO_CONVERSATION = "none"


def slider_range(name: str, context_length: int | None = None) -> tuple[float, float]:
    """The least and greatest value of a slider; the longest answer leaves a quarter of the window to the question."""
    allowed = SAMPLING_RANGES[name]
    high = _SLIDER_HIGHS.get(name, allowed.high)
    if name == "max_new_tokens" and context_length is not None:
        high = min(high, max(1, context_length * 3 // 4))
    return allowed.low, high


def load_view(language: Language, progress: LoadProgress) -> tuple[Any, ...]:
    """The page while the model loads: the status line and the brand line; everything else stays."""
    percent = None if progress.fraction is None else round(100 * progress.fraction)
    status = fill(
        "progress",
        stage=say(language, f"loading_{progress.stage}"),
        detail=progress.detail or ("" if percent is None else f"{percent} %"),
        kind="unknown" if percent is None else "known",
        percent=str(percent or 0),
        note=say(language, "loading_note"),
    )
    return (status, _brand(language, say(language, "no_model_yet"), "loading"), *[gr.skip()] * (NUM_SETTINGS + 2))


def model_view(language: Language, load: ModelSource, conversation: Conversation | None) -> tuple[Any, ...]:
    """The page once the load has ended: status line, brand, card, and then what `settings_view` gives."""
    chat_model = load.chat_model
    if chat_model is None:
        title = say(language, "load_failed")
        status = fill("load_failed", title=title, text=error_text(language, load.error_class, load.error or ""))
        return (status, _brand(language, title, "failed"), *[gr.skip()] * (NUM_SETTINGS + 2))
    return (
        _status(language, load, chat_model),
        _brand(language, _shown_name(chat_model), "ready is-base" if chat_model.is_completion_model else "ready"),
        _card(language, chat_model),
        *settings_view(chat_model, conversation),
    )


def _status(language: Language, load: ModelSource, chat_model: ChatSource) -> str:
    """What is wrong although there is a model; "" if nothing is."""
    if chat_model.problem is not None:
        return fill(
            "load_failed",
            title=say(language, "unhealthy"),
            text=error_text(language, "EngineStopped", chat_model.problem),
        )
    if load.notice is not None:
        text = error_text(language, load.error_class, load.notice)
        return fill("load_failed", title=say(language, "switch_failed"), text=text)
    return _NO_STATUS


def settings_view(chat_model: ChatSource, conversation: Conversation | None) -> tuple[Any, ...]:
    """The settings as the next answer will use them, in the order of `NUM_SETTINGS`, and the reset button."""
    settings = conversation.settings if conversation is not None else Settings()
    system = chat_model.default_system if settings.system is None else settings.system
    sliders = []
    for name in ALL_SLIDERS:
        value = settings.sampling.get(name, getattr(chat_model.default_sampling, name))
        low, high = slider_range(name, chat_model.context_length)
        sliders.append(gr.update(value=value, minimum=low, maximum=max(high, value), interactive=True))
    seed = gr.update(value=settings.sampling.get("seed"), interactive=True)
    stop = gr.update(value="\n".join(settings.stop), interactive=True)
    prefill = gr.update(value=settings.prefill, interactive=True)
    does_think = chat_model.thinks_by_default if settings.thinking is None else settings.thinking
    thinks = gr.update(value=does_think, visible=chat_model.can_switch_thinking, interactive=True)
    answer_in = gr.update(value=settings.language or "", interactive=True)
    stops_loops = gr.update(value=settings.stops_loops is not False, interactive=True)
    steering = (gr.update(value=system, interactive=True), seed, stop, prefill, thinks, answer_in, stops_loops)
    shown = conversation.id if conversation is not None else _NO_CONVERSATION
    return filled_for(shown, chat_model), *steering, *sliders, gr.update(interactive=True)


def filled_for(conversation_id: str, chat_model: ChatSource) -> str:
    """What the panel says it shows: a conversation's settings, and the defaults of a model that may be exchanged."""
    return f"{conversation_id} {_shown_name(chat_model)}"


def read_settings(values: Sequence[Any], chat_model: ChatSource, conversation_id: str | None = None) -> Settings | None:
    """What of the side panel differs from the model's defaults; None while the panel has not been filled.

    Args:
        values: the panel, in the order of `NUM_SETTINGS`.
        chat_model: whose defaults they are.
        conversation_id: whose settings are wanted; None while the panel shows another's, or another model's. None for
            whichever conversation it shows.

    Raises:
        InvalidSetting: a value is no number inside its range, or a text is too long.
    """
    shown, system, seed, stop, prefill, thinks, answer_in, stops_loops, *numbers = values
    known, _space, model = shown.partition(" ") if isinstance(shown, str) else ("", "", "")
    if not known or conversation_id not in (None, known) or model != _shown_name(chat_model):
        return None
    defaults = chat_model.default_sampling
    given: dict[str, float | int | None] = {
        name: _number(name, number) for name, number in zip(ALL_SLIDERS, numbers, strict=True)
    }
    given["seed"] = None if seed is None else _number("seed", seed)
    defaults.changed(**given)  # raises for a value out of range
    changed = {name: value for name, value in given.items() if value != getattr(defaults, name)}
    has_own_system = isinstance(system, str) and system != chat_model.default_system
    is_asked = chat_model.can_switch_thinking and isinstance(thinks, bool) and thinks != chat_model.thinks_by_default
    return Settings(
        clean(system) if has_own_system else None,
        changed,
        _stop_strings(stop),
        _short("prefill", clean(prefill), _MAX_PREFILL_CHARS),
        thinks if is_asked else None,
        answer_in if answer_in in get_args(AnswerLanguage) else None,
        False if stops_loops is False else None,
    )


def _stop_strings(value: Any) -> tuple[str, ...]:
    lines = tuple(line for line in clean(value).splitlines() if line)
    if len(lines) > _MAX_STOP_STRINGS:
        raise InvalidSetting(f"stop has {len(lines)} texts; give {_MAX_STOP_STRINGS} at most.")
    return tuple(_short("stop", line, _MAX_STOP_CHARS) for line in lines)


def _short(name: str, text: str, max_chars: int) -> str:
    if len(text) > max_chars:
        raise InvalidSetting(f"{name} has {len(text):,} characters; give {max_chars:,} at most.")
    return text


def _number(name: str, value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidSetting(f"{name} is {value!r}; give a number.")
    return int(value) if name in _WHOLE and value == value // 1 else value


def _shown_name(chat_model: ChatSource) -> str:
    """A folder by its last part alone: where it lies is the business of whoever runs the program."""
    path = PurePath(chat_model.name)
    return path.name if path.is_absolute() or chat_model.name.startswith((".", "~")) else chat_model.name


def _brand(language: Language, model: str, state: str) -> Fragment:
    return fill("brand", title=say(language, "title"), name=model, state=state)


def _card(language: Language, chat_model: ChatSource) -> Fragment:
    window = say(language, "context_length", tokens=f"{chat_model.context_length:,}")
    if chat_model.window_reason:
        window += f" ({chat_model.window_reason})"
    source = chat_model.checkpoint.source
    return fill(
        "model_card",
        name=_shown_name(chat_model),
        reason=f"{chat_model.placement.reason}; {chat_model.capacity}",
        window=window,
        source=say(language, "came_from", source=source) if source else "",
    )
