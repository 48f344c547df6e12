"""OpenAI's own client against the API: what it sends is understood, what it gets is what it expects."""

from collections.abc import Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from model_loader.events import ToolCall
from tests.scripted_model import Script
from tests.ui.http_api.served_api import HELLO, QUICK, ScriptedApi, eventually, on_a_port
from tests.ui.test_guard import run
from ui.http_api.options import ApiOptions

CALLING = Script(answer="", tool_calls=(ToolCall("get_weather", '{"city": "Kyoto"}'),), tokens_per_s=5000)


class GetWeather(BaseModel):
    """The weather in a city."""

    city: str


@pytest.fixture(scope="module")
def api() -> ScriptedApi:
    return ScriptedApi(options=ApiOptions(keys=("sk-client",)))


@pytest.fixture(scope="module")
def url(api: ScriptedApi) -> Iterator[str]:
    with on_a_port(api) as address:
        yield f"{address}/v1"


@pytest.fixture
def client(api: ScriptedApi, url: str) -> Iterator[OpenAI]:
    api.model.begin_again(QUICK)
    with OpenAI(base_url=url, api_key="sk-client", timeout=20, max_retries=0) as opened:
        yield opened


def test_an_answer_and_its_stream(client: OpenAI, api: ScriptedApi) -> None:
    whole = client.chat.completions.create(model="scripted", messages=HELLO)  # type: ignore[call-overload]
    assert whole.choices[0].message.content == api.model.script.answer
    with client.chat.completions.stream(
        model="scripted",
        messages=HELLO,
        stream_options={"include_usage": True},  # type: ignore[arg-type]
    ) as stream:
        assert "".join(event.delta for event in stream if event.type == "content.delta") == api.model.script.answer
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "stop"
    assert final.usage is not None
    assert final.usage.completion_tokens == 10


def test_an_answer_can_be_sent_back(client: OpenAI, api: ScriptedApi) -> None:
    api.model.begin_again(Script(answer="Yes.", reasoning="Hm.", tokens_per_s=5000))
    answer = client.chat.completions.create(model="scripted", messages=HELLO)  # type: ignore[call-overload]
    again = [*HELLO, answer.choices[0].message.model_dump(), *HELLO]
    client.chat.completions.create(model="scripted", messages=again)  # type: ignore[call-overload]
    assert [each.content for each in api.model.prompts[1][1:]] == ["Hello!", "Yes.", "Hello!"]


def test_tools_streamed_and_answered(client: OpenAI, api: ScriptedApi) -> None:
    api.model.begin_again(CALLING)
    tools = [openai.pydantic_function_tool(GetWeather, name="get_weather")]
    with client.chat.completions.stream(model="scripted", messages=HELLO, tools=tools) as stream:  # type: ignore[arg-type]
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.function.parsed_arguments == GetWeather(city="Kyoto")
    api.model.begin_again(QUICK)
    result = {"role": "tool", "tool_call_id": call.id, "content": "Rain."}
    client.chat.completions.create(model="scripted", messages=[*HELLO, message, result])  # type: ignore[call-overload]
    assert api.model.prompts[0][-1].content == "Rain."


def test_structured_output(client: OpenAI, api: ScriptedApi) -> None:
    api.model.begin_again(Script(answer='{"city": "Kyoto"}', tokens_per_s=5000))
    parsed = client.chat.completions.parse(model="scripted", messages=HELLO, response_format=GetWeather)  # type: ignore[arg-type]
    assert parsed.choices[0].message.parsed == GetWeather(city="Kyoto")
    assert api.model.controls[0].json_schema is not None
    assert api.model.controls[0].json_schema["required"] == ["city"]


def test_text_completions_and_models(client: OpenAI, api: ScriptedApi) -> None:
    completion = client.completions.create(model="scripted", prompt=[79, 110], logprobs=1, echo=True)
    assert completion.choices[0].text == f"On{api.model.script.answer}"
    pieces = client.completions.create(model="scripted", prompt="On", stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == api.model.script.answer
    assert [model.id for model in client.models.list()] == ["scripted"]
    assert client.models.retrieve("scripted").id == "scripted"


def test_more_than_openais_fields_pass_as_extra_body(client: OpenAI, api: ScriptedApi) -> None:
    extra = {"top_k": 3, "chat_template_kwargs": {"enable_thinking": False}}
    client.chat.completions.create(model="scripted", messages=HELLO, extra_body=extra)  # type: ignore[call-overload]
    assert api.model.samplings[0].top_k == 3  # type: ignore[union-attr]


def test_errors_are_those_the_client_knows(client: OpenAI, api: ScriptedApi, url: str) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="scripted", messages=HELLO, temperature=9)  # type: ignore[call-overload]
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)  # type: ignore[call-overload]
    assert missing.value.code == "model_not_found"
    with OpenAI(base_url=url, api_key="wrong", max_retries=0) as stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    api.model.begin_again(Script(fail_at=3, tokens_per_s=5000))
    stream = client.chat.completions.create(model="scripted", messages=HELLO, stream=True)  # type: ignore[call-overload]
    with pytest.raises(openai.APIError, match="failed as it was told"):
        list(stream)


def test_it_tries_again_until_the_model_is_there() -> None:
    api = ScriptedApi(is_loaded=False)
    with on_a_port(api) as address, OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=3) as patient:
        client = patient.with_options(timeout=20)
        with pytest.raises(openai.InternalServerError):
            client.with_options(max_retries=0).models.list()
        api.load.finish()
        assert client.models.list().data[0].id == "scripted"


async def leave_early(url: str) -> None:
    async with AsyncOpenAI(base_url=url, api_key="sk-client") as client:
        stream = await client.chat.completions.create(model="scripted", messages=HELLO, stream=True)  # type: ignore[call-overload]
        async for _chunk in stream:
            break
        await stream.close()


def test_closing_a_stream_early_ends_the_answer(api: ScriptedApi, url: str) -> None:
    api.model.begin_again(Script(answer="word " * 2000, tokens_per_s=50))
    run(leave_early(url))
    eventually(lambda: api.model.num_streams == 0, 1.0)
