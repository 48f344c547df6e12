"""How one answer was made: everything that is needed to make it again.

What comes in is a model and the settings of an answer; what goes out is a value that is kept with the answer, the
words of a program that asks for the same, and a comparison with a second run. It knows no widgets.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from model_loader.chat_format.messages import Message
from model_loader.chat_source import ChatSource
from model_loader.engine.request import Sampling


@dataclass(frozen=True, slots=True)
class Receipt:
    """The settings of one answer and the model that wrote it.

    Attributes:
        checkpoint, revision: what was loaded; the revision is "" where a folder has none.
        precision: number format and device, as the placement says.
        template_hash: the first 12 hexadecimal digits of the SHA-256 of the checkpoint's chat template.
        system: the system prompt that was sent.
        sampling: every sampling setting by its name in `Sampling`, the seed that was drawn included.
        stop: texts that end the answer.
        prefill: how the answer had to begin.
        thinking: whether the model was asked to think first; None where it has no choice.
    """

    checkpoint: str
    revision: str = ""
    precision: str = ""
    template_hash: str = ""
    system: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    stop: Sequence[str] = ()
    prefill: str = ""
    thinking: bool | None = None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Receipt":
        """A receipt from what `asdict` made of it; names that are not known are left out."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


def make_receipt(
    chat_model: ChatSource, system: str, sampling: Sampling, stop: Sequence[str], prefill: str, thinking: bool | None
) -> Receipt:
    """The receipt of an answer that is about to be made."""
    return Receipt(
        checkpoint=chat_model.name,
        revision=chat_model.checkpoint.revision,
        precision=chat_model.placement.summary,
        template_hash=chat_model.checkpoint.template_hash,
        system=system,
        sampling=asdict(sampling),
        stop=tuple(stop),
        prefill=prefill,
        thinking=thinking,
    )


def request_body(receipt: Receipt, messages: Sequence[Message]) -> dict[str, Any]:
    """The same request as the body of `POST /v1/chat/completions`; what changes nothing is left out."""
    sampling = dict(receipt.sampling)
    body: dict[str, Any] = {
        "model": receipt.checkpoint,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "max_tokens": sampling.pop("max_new_tokens"),
    }
    neutral = asdict(Sampling())
    keeps = ("temperature", "top_p", "top_k", "seed")  # those that a server would fill in differently
    body |= {name: value for name, value in sampling.items() if name in keeps or value != neutral.get(name)}
    if receipt.stop:
        body["stop"] = list(receipt.stop)
    if receipt.prefill:
        body["messages"].append({"role": "assistant", "content": receipt.prefill})
        body["continue_final_message"] = True
    if receipt.thinking is not None:
        body["chat_template_kwargs"] = {"enable_thinking": receipt.thinking}
    return body


def as_curl(body: Mapping[str, Any], url: str) -> str:
    """A command for a POSIX shell that sends the request."""
    data = json.dumps(body, ensure_ascii=False, indent=2)
    if len(data.encode("utf-8", "replace")) > _MAX_ARGUMENT_BYTES:  # no line of JSON is this word alone
        data = f"@- <<'END'\n{data}\nEND"
        return f"curl {url.rstrip('/')}/v1/chat/completions \\\n  -H 'Content-Type: application/json' \\\n  -d {data}\n"
    data = data.replace("'", "'\\''")
    return f"curl {url.rstrip('/')}/v1/chat/completions \\\n  -H 'Content-Type: application/json' \\\n  -d '{data}'\n"


def as_python(body: Mapping[str, Any], url: str) -> str:
    """A Python program that sends the request with the openai package."""
    ours = {name for name in body if name in _NOT_IN_OPENAI}
    lines = ["from openai import OpenAI", "", f"client = OpenAI(base_url={url.rstrip('/') + '/v1'!r}, api_key='-')"]
    lines.append("answer = client.chat.completions.create(")
    lines += [f"    {name}={value!r}," for name, value in body.items() if name not in ours]
    if ours:
        lines.append(f"    extra_body={ {name: body[name] for name in body if name in ours}!r},")
    return "\n".join([*lines, ")", "print(answer.choices[0].message.content)", ""])


_MAX_ARGUMENT_BYTES = 100_000
"""Of one argument of a command; Linux takes 128 KiB."""
_NOT_IN_OPENAI = {"top_k", "min_p", "repetition_penalty", "continue_final_message", "chat_template_kwargs"}


def first_difference(one: str, other: str) -> int | None:
    """The position of the first character that differs; None if there is none."""
    if one == other:
        return None
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)
