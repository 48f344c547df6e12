"""What a client may send to `/v1/chat/completions`: messages, tools and how the answer is formed.

The same rules as in `schema`. Whether the messages make a conversation is not looked at here.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from model_loader.engine.request import TOP_LOGPROBS
from ui.http_api.schema import (
    AnswerRequest,
    AnyObject,
    ApiModel,
    Label,
    MaxTokens,
    Name,
    conflict,
    kind_of,
    list_or_text,
)

_MAX_TOOLS = 128
_MAX_CALLS = 64
_CHOICE_WORDS = ("auto", "none", "required")
CallId = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class TextPart(ApiModel):
    """A part of a message; text is the only kind there is."""

    type: Literal["text"]
    text: str


Content = Annotated[
    Annotated[str, Tag("(text)")] | Annotated[list[TextPart], Field(fail_fast=True), Tag("(list)")],
    Discriminator(list_or_text),
]


class CalledFunction(ApiModel):
    """A call that an earlier answer made; the arguments are JSON as the model wrote it.

    OpenAI's client sends back what it read in them too.
    """

    name: Name
    arguments: str
    parsed_arguments: Any = None


class CallMade(ApiModel):
    """A call with its id."""

    id: CallId
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class ChatMessage(ApiModel):
    """One message as clients send it, also when they send back an answer of ours as they got it.

    `name` is read by nobody: a Qwen prompt has no place for names. What an assistant's message has as
    `reasoning_content`, or `reasoning` as newer servers call it, is repeated where the template does that: while tools
    are called for the last question. `parsed` is what OpenAI's client has read in the content.
    """

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | None = None
    name: Label | None = None
    tool_calls: Annotated[list[CallMade], Field(max_length=_MAX_CALLS, fail_fast=True)] | None = None
    tool_call_id: CallId | None = None
    function_call: CalledFunction | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    parsed: Any = None

    @model_validator(mode="after")
    def _check_role(self) -> "ChatMessage":
        calls = bool(self.tool_calls) or self.function_call is not None
        if calls and self.role != "assistant":
            raise conflict("", f"a message of the {self.role} calls functions; only the assistant's may")
        if self.content is None and not calls:
            raise conflict("content", "it is missing")
        if self.role == "tool" and self.tool_call_id is None:
            raise conflict("tool_call_id", "it is missing; give the id of the call that this is the result of")
        if self.role == "function" and self.name is None:
            raise conflict("name", "it is missing; give the name of the function that this is the result of")
        return self

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class FunctionOffered(ApiModel):
    """A function that the answer may call."""

    name: Name
    description: str | None = None
    parameters: AnyObject | None = None
    strict: bool | None = None

    @model_validator(mode="after")
    def _check(self) -> "FunctionOffered":
        if self.name in _CHOICE_WORDS:
            raise conflict("name", f"no function may be called {self.name}, which is a word of tool_choice")
        if self.parameters and self.parameters.get("type", "object") != "object":
            raise conflict("parameters", "its type must be object")
        return self


class ToolOffered(ApiModel):
    """A function as `tools` has it."""

    type: Literal["function"]
    function: FunctionOffered


class FunctionName(ApiModel):
    """The one function that must be called."""

    name: Name


class ToolNamed(ApiModel):
    """The one function that must be called, as `tool_choice` has it."""

    type: Literal["function"]
    function: FunctionName


class JsonSchema(ApiModel):
    """A JSON schema with its name."""

    name: Name
    description: str | None = None
    schema_: Annotated[AnyObject, Field(alias="schema")]
    strict: bool | None = None


class AnyTextFormat(ApiModel):
    """The answer is text."""

    type: Literal["text"]


class JsonObjectFormat(ApiModel):
    """The answer is some JSON object."""

    type: Literal["json_object"]


class JsonSchemaFormat(ApiModel):
    """The answer is JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class TemplateSwitches(ApiModel):
    """What a chat template may be told."""

    enable_thinking: bool | None = None


ToolChoice = Annotated[
    Annotated[Literal["auto", "none", "required"], Tag("(text)")] | Annotated[ToolNamed, Tag("(object)")],
    Discriminator(kind_of),
]
FunctionChoice = Annotated[
    Annotated[Literal["auto", "none"], Tag("(text)")] | Annotated[FunctionName, Tag("(object)")],
    Discriminator(kind_of),
]


class ChatRequest(AnswerRequest):
    """`POST /v1/chat/completions`: the answer to a conversation."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, fail_fast=True)]
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=TOP_LOGPROBS.low, le=TOP_LOGPROBS.high)] | None = None
    response_format: (
        Annotated[AnyTextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")] | None
    ) = None
    tools: Annotated[list[ToolOffered], Field(max_length=_MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[FunctionOffered], Field(max_length=_MAX_TOOLS, fail_fast=True)] | None = None
    function_call: FunctionChoice | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: TemplateSwitches | None = None
    generation_config: Annotated[str, StringConstraints(max_length=16_384)] | None = None

    @model_validator(mode="after")
    def _check_together(self) -> "ChatRequest":
        lengths = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(lengths) > 1:
            raise conflict("max_tokens", "it differs from max_completion_tokens; give one of them")
        if self.top_logprobs is not None and not self.logprobs:
            raise conflict("top_logprobs", "it goes with logprobs: true alone")
        if self.continue_final_message and self.add_generation_prompt:
            raise conflict("add_generation_prompt", "it contradicts continue_final_message; leave one of them out")
        if self.add_generation_prompt is False and not self.continue_final_message:
            raise conflict("add_generation_prompt", "it is false; that goes with continue_final_message: true alone")
        self._check_tools()
        return self

    def _check_tools(self) -> None:
        if self.tools and self.functions:
            raise conflict("functions", "it is the old form of tools; give one of them")
        for field, choice, offered in (
            ("tool_choice", self.tool_choice, self.tools),
            ("function_call", self.function_call, self.functions),
        ):
            if choice in (None, "auto", "none"):
                continue
            if not offered:
                raise conflict(field, "it asks for a call, but no function is offered")
        names = [function.name for function in self.offered]
        if len(set(names)) < len(names):
            raise conflict("tools", "two functions have the same name")
        if self.forced is not None and self.forced not in names:
            raise conflict("tool_choice", f"it names {self.forced}, which is not offered")

    @property
    def offered(self) -> list[FunctionOffered]:
        """The functions that the answer may call, from either field."""
        return [tool.function for tool in self.tools or ()] or list(self.functions or ())

    @property
    def forced(self) -> str | None:
        """The name of the one function that must be called."""
        if isinstance(self.tool_choice, ToolNamed):
            return self.tool_choice.function.name
        return self.function_call.name if isinstance(self.function_call, FunctionName) else None

    @property
    def choice(self) -> str:
        """As `ToolUse.choice` has it."""
        words = [each for each in (self.tool_choice, self.function_call) if isinstance(each, str)]
        return self.forced or (words[0] if words else "auto")

    @property
    def is_legacy(self) -> bool:
        """Whether calls are answered in the old form, one `function_call`."""
        return bool(self.functions)

    @property
    def wants_json(self) -> bool:
        """Whether the answer is JSON."""
        return self.response_format is not None and self.response_format.type != "text"
