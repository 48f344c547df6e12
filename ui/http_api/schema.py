"""What a client may send, field by field: our own models, because OpenAI's let unknown fields and any number pass.

In: values as JSON has them. Out: frozen requests in which every number is finite and in its range, or one error that
names the field. Ranges are those of `Sampling`. Nothing here knows a model; sizes are bounded by the body's limit and,
later, by the window.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from model_loader.engine.request import LOGIT_BIAS, SAMPLING_RANGES, TOP_LOGPROBS

MAX_CHOICES = 4
DEFAULT_COMPLETION_TOKENS = 16
"""As OpenAI documents `max_tokens` of its completions."""
_MAX_DEPTH = 32


def conflict(param: str, message: str) -> PydanticCustomError:
    """Fields that do not go together; `param` is the one to change."""
    return PydanticCustomError("conflict", "{message}", {"message": message, "param": param})


def _not_too_deep(value: Any) -> Any:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [each for outer in level for each in _inside(outer)]
        if not level:
            return value
    raise PydanticCustomError("too_deep", "it is nested more than {depth} levels deep", {"depth": _MAX_DEPTH})


def _inside(value: Any) -> list[Any]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [each for each in children if isinstance(each, dict | list)]


def kind_of(value: Any) -> str:
    """Which of several forms a value has; the names stand in brackets, so that they are told from fields."""
    if isinstance(value, list):
        return kind_of(value[0]).replace("(", "(list of ", 1) if value else "(list of text)"
    if isinstance(value, int) and not isinstance(value, bool):
        return "(id)"
    return "(object)" if isinstance(value, dict) else "(text)"


def list_or_text(value: Any) -> str:
    """Which of two forms a value has."""
    return "(list)" if isinstance(value, list) else "(text)"


def _in_range(name: str) -> Any:
    return Field(ge=SAMPLING_RANGES[name].low, le=SAMPLING_RANGES[name].high)


MaxTokens = Annotated[int, _in_range("max_new_tokens")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
AnyObject = Annotated[dict[str, Any], AfterValidator(_not_too_deep)]
Label = Annotated[str, StringConstraints(max_length=512)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=512)]
StopString = Annotated[str, StringConstraints(min_length=1, max_length=256)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
Stop = Annotated[
    Annotated[StopString, Tag("(text)")]
    | Annotated[list[StopString], Field(max_length=16, fail_fast=True), Tag("(list)")],
    Discriminator(list_or_text),
]


class ApiModel(BaseModel):
    """No unknown fields, no conversions, no infinite numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True, protected_namespaces=())


class StreamOptions(ApiModel):
    """How a stream is sent."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class HarmlessFields(ApiModel):
    """Fields that clients send and that change nothing about an answer made here; they are checked and left alone."""

    user: Label | None = None
    metadata: Annotated[dict[Label, Label], Field(max_length=16)] | None = None
    store: bool | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None


class AnswerRequest(HarmlessFields):
    """What both kinds of request have: how an answer is drawn, ended and sent."""

    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    temperature: Annotated[float, _in_range("temperature")] | None = None
    top_p: Annotated[float, _in_range("top_p")] | None = None
    top_k: Annotated[int, _in_range("top_k")] | None = None
    min_p: Annotated[float, _in_range("min_p")] | None = None
    repetition_penalty: Annotated[float, _in_range("repetition_penalty")] | None = None
    presence_penalty: Annotated[float, _in_range("presence_penalty")] | None = None
    frequency_penalty: Annotated[float, _in_range("frequency_penalty")] | None = None
    seed: Annotated[int, _in_range("seed")] | None = None
    stop: Stop | None = None
    logit_bias: (
        Annotated[
            dict[
                Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")],
                Annotated[float, Field(ge=LOGIT_BIAS.low, le=LOGIT_BIAS.high)],
            ],
            Field(max_length=1024),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _check_stream(self) -> "AnswerRequest":
        if self.stream_options is not None and not self.stream:
            raise conflict("stream_options", "it goes with stream: true alone")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with what it cost."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class CompletionRequest(AnswerRequest):
    """`POST /v1/completions`: how a text goes on."""

    prompt: Annotated[
        Annotated[str, Tag("(text)")]
        | Annotated[list[str], Field(min_length=1, max_length=256, fail_fast=True), Tag("(list of text)")]
        | Annotated[TokenIds, Tag("(list of id)")]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=256, fail_fast=True), Tag("(list of list of id)")],
        Discriminator(kind_of),
    ]
    max_tokens: Annotated[int, Field(ge=0, le=SAMPLING_RANGES["max_new_tokens"].high)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=TOP_LOGPROBS.low, le=TOP_LOGPROBS.high)] | None = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    suffix: None = None

    @model_validator(mode="after")
    def _check_length(self) -> "CompletionRequest":
        if self.max_tokens == 0 and not self.echo:
            raise conflict("max_tokens", "it is 0; that goes with echo: true alone, to score a text")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """All texts, each as it was given: as text or as ids."""
        given: Any = self.prompt
        is_one = isinstance(given, str) or isinstance(given[0], int)
        return [given] if is_one else list(given)


class LoadRequest(ApiModel):
    """`POST /load_model`: is a model there?"""

    model: ModelName
