"""LangChain's ChatOpenAI: answer, stream, batch, structured output, probabilities, and a tool from call to result.

python langchain_client.py BUILTIN_URL SCRIPTED_URL
"""

import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel, Field


class Person(BaseModel):
    """Somebody. A small model would fill a text without a limit until it may write no more."""

    name: str = Field(max_length=40)
    age: int = Field(ge=0, le=150)


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}."


def main(builtin: str, scripted: str) -> None:
    """Fails with a traceback if anything is not as it should be."""
    guide = ChatOpenAI(base_url=builtin, api_key="none", model="builtin", temperature=0)
    answer = guide.invoke("Hello!")
    assert answer.content
    assert answer.usage_metadata["output_tokens"] > 5
    assert "".join(piece.content for piece in guide.stream("Hello!")) == answer.content
    assert [each.content for each in guide.batch(["Hello!", "Hello!"])] == [answer.content] * 2
    assert isinstance(guide.with_structured_output(Person, method="json_schema").invoke("Who are you?"), Person)
    scores = guide.bind(logprobs=True, top_logprobs=2).invoke("Hello!").response_metadata["logprobs"]["content"]
    assert "".join(score["token"] for score in scores) == answer.content
    assert OpenAI(base_url=builtin, api_key="none", model="builtin", max_tokens=8).invoke("Hello")
    agent = ChatOpenAI(base_url=scripted, api_key="none", model="scripted").bind_tools([get_weather])
    question = HumanMessage("How is the weather in Kyoto?")
    called = agent.invoke([question])
    (call,) = called.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Kyoto"})
    streamed = None
    for piece in agent.stream([question]):
        streamed = piece if streamed is None else streamed + piece
    assert [each["args"] for each in streamed.tool_calls] == [call["args"]]
    result = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
    assert agent.invoke([question, called, result]).content == "It rains in Kyoto."


if __name__ == "__main__":
    main(*sys.argv[1:])
