"""How the answers of one conversation are made, as the user has set it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ui.chat.script_watch import AnswerLanguage

LANGUAGE_REQUESTS: Mapping[AnswerLanguage, str] = {
    "en": "Always answer in English, whatever language the question is in.",
    "zh": "无论问题使用什么语言，请始终用中文回答。",
    "ja": "質問がどの言語であっても、必ず日本語で答えてください。",
}
"""What is added to the system prompt, in the language's own words: models follow those best."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the answers of one conversation are made.

    Attributes:
        system: the system prompt; None takes the model's own.
        sampling: sampling settings that differ from the model's defaults, by the names of `Sampling`.
        stop: texts that end an answer.
        prefill: how every answer has to begin.
        thinking: whether the model thinks first; None leaves it to the model.
        language: in which language answers are asked for; None leaves it to the model.
        stops_loops: False lets answers repeat themselves; None stops them.
    """

    system: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    prefill: str = ""
    thinking: bool | None = None
    language: AnswerLanguage | None = None
    stops_loops: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """What is not as the model has it, as JSON can hold it."""
        return {name: value for name, value in asdict(self).items() if value not in (None, (), "", {})}

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Settings":
        """The settings that `as_json` gave; names that are not known are left out."""
        known = {name: value for name, value in values.items() if name in {each.name for each in fields(cls)}}
        return cls(**{**known, "stop": tuple(known.get("stop", ()))})
