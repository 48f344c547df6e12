"""smolagents: a plain answer and its stream, an agent that calls tools and one that writes code.

python smolagents_client.py BUILTIN_URL SCRIPTED_URL
"""

import sys

from smolagents import CodeAgent, LogLevel, OpenAIModel, ToolCallingAgent, tool


@tool
def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: where.
    """
    return f"Rain in {city}."


def main(builtin: str, scripted: str) -> None:
    """Fails with a traceback if anything is not as it should be."""
    guide = OpenAIModel(model_id="builtin", api_base=builtin, api_key="none", temperature=0)
    question = [{"role": "user", "content": [{"type": "text", "text": "Hello!"}]}]
    answer = guide.generate(question).content
    assert answer
    assert "".join(piece.content or "" for piece in guide.generate_stream(question)) == answer
    model = OpenAIModel(model_id="scripted", api_base=scripted, api_key="none")
    for kind, streams in ((ToolCallingAgent, False), (ToolCallingAgent, True), (CodeAgent, False), (CodeAgent, True)):
        agent = kind(tools=[get_weather], model=model, stream_outputs=streams, verbosity_level=LogLevel.OFF)
        assert agent.run("How is the weather in Kyoto?") == "It rains in Kyoto."


if __name__ == "__main__":
    main(*sys.argv[1:])
