"""Runs every client against the built-in model and against a scripted one that calls tools; prints a table.

    python -m tests.clients PYTHON_OF_THE_CLIENTS [CLIENT ...]

Ends with one line of JSON, and with status 1 if a client failed.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_loader.chat_format.messages import NO_TOOLS, Message, ToolUse
from model_loader.events import Event, ToolCall
from tests.benchmarks.api import served
from tests.benchmarks.start import free_port
from tests.scripted_model import Script, ScriptedLoad, ScriptedModel
from ui.http_api.serve import ServedApi
from ui.http_api.server import Api

FOLDER = Path(__file__).parent
BUILTIN = FOLDER.parent.parent / "model_loader" / "builtin" / "checkpoint"
CODE = 'Thought: I know.\n<code>\nfinal_answer("It rains in Kyoto.")\n</code>'
SCHEMATHESIS_CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection,unsupported_method"
)
TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {questions}
test_split: train
doc_to_text: "{{{{question}}}}"
{more}
"""
CHOICE = """output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]"""
GENERATE = """output_type: generate_until
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 16}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]"""


class Weatherman(ScriptedModel):
    """Asks for the weather, reads the result and tells it, in the way that each agent expects."""

    def stream(
        self, messages: Sequence[Message], *arguments: Any, tools: ToolUse = NO_TOOLS, **more: Any
    ) -> Iterator[Event]:
        """The next step of the agent."""
        names = {tool.name for tool in tools.offered}
        knows = any("Rain in Kyoto" in message.content for message in messages)
        script = Script(answer="It rains in Kyoto.", tokens_per_s=1000)
        if names and not knows:
            script = Script(answer="", tool_calls=(ToolCall("get_weather", '{"city": "Kyoto"}'),), tokens_per_s=1000)
        elif "final_answer" in names:
            calls = (ToolCall("final_answer", '{"answer": "It rains in Kyoto."}'),)
            script = Script(answer="", tool_calls=calls, tokens_per_s=1000)
        elif "<code>" in messages[0].content:
            script = Script(answer=CODE, tokens_per_s=1000)
        self.script = script
        yield from super().stream(messages, *arguments, tools=tools, **more)


@dataclass(frozen=True)
class Try:
    """One client: what it is to do, and the programs that do it."""

    name: str
    what: str
    run: Callable[["Place"], str]


@dataclass(frozen=True)
class Place:
    """Where a client runs and whom it asks."""

    python: str
    folder: Path
    builtin: str
    scripted: str

    def call(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs a program of the clients' environment; its output.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        bin_folder = str(Path(self.python).parent)
        environment = {**os.environ, "HF_DATASETS_OFFLINE": "1", "TERM": "dumb", "COLUMNS": "100"}
        environment["PATH"] = f"{bin_folder}{os.pathsep}{environment['PATH']}"
        command = [str(Path(bin_folder) / arguments[0]), *arguments[1:]]
        result = subprocess.run(
            command, cwd=self.folder, env=environment, input=stdin, capture_output=True, text=True, timeout=900,
            check=False,
        )  # fmt: skip
        if result.returncode:
            raise subprocess.CalledProcessError(result.returncode, command, result.stdout + result.stderr)
        return result.stdout


@contextlib.contextmanager
def scripted_api() -> Generator[str]:
    """The API of a model that calls tools; its base URL."""
    load: Any = ScriptedLoad(Weatherman())
    opened = ServedApi(Api(load), load, "127.0.0.1", free_port())
    try:
        yield opened.url
    finally:
        opened.close()


def run_program(place: Place, name: str) -> str:
    """A client that is a program of ours."""
    place.call("python", str(FOLDER / name), place.builtin, place.scripted)
    return "passed"


def run_lm_eval(place: Place) -> str:
    """Loglikelihoods and generated texts of our own small task, by both of its models."""
    for name, more in (("guide_choice", CHOICE), ("guide_text", GENERATE)):
        task = TASK.format(name=name, questions=FOLDER / "questions.jsonl", more=more)
        (place.folder / f"{name}.yaml").write_text(task, encoding="utf-8")
    found = {}
    for model, path, tasks, settings, more in (
        ("local-completions", "completions", "guide_choice,guide_text", f"tokenizer={BUILTIN}", "--batch_size=2"),
        ("local-chat-completions", "chat/completions", "guide_text", "num_concurrent=4", "--apply_chat_template"),
    ):
        arguments = f"model=builtin,base_url={place.builtin}/{path},{settings}"
        output = place.folder / model
        place.call(
            "lm_eval", "run", "--model", model, "--model_args", arguments, "--tasks", tasks, "--include_path",
            str(place.folder), "--output_path", str(output), more,
        )  # fmt: skip
        (results,) = output.rglob("results_*.json")
        found[model] = json.loads(results.read_text(encoding="utf-8"))["results"]
    accuracy = found["local-completions"]["guide_choice"]["acc,none"]
    assert accuracy == 1.0, found
    return f"accuracy {accuracy:.2f} by loglikelihood"


def run_transformers_chat(place: Place) -> str:
    """A question, typed into the program."""
    said = place.call("transformers", "chat", "builtin", place.builtin, stdin="Hello!\n!exit\n")
    answer = said.split("<builtin>:")[1].split("<")[0].strip()
    assert answer, said
    return f"answered {answer[:40]!r}"


def run_schemathesis(place: Place) -> str:
    """Every kind of request that it makes."""
    output = place.call(
        "schemathesis", "run", f"{place.scripted}/openapi.json", "--checks", SCHEMATHESIS_CHECKS, "--max-examples",
        "50", "--no-color",
    )  # fmt: skip
    return next(line.strip() for line in output.splitlines() if "generated" in line)


TRIES = (
    Try(
        "LangChain",
        "answer, stream, batch, JSON schema, logprobs, tools",
        lambda place: run_program(place, "langchain_client.py"),
    ),
    Try(
        "smolagents",
        "answer, stream, agents with tools and with code",
        lambda place: run_program(place, "smolagents_client.py"),
    ),
    Try("lm_eval", "loglikelihood, generated texts, chat", run_lm_eval),
    Try("transformers chat", "a question in its terminal", run_transformers_chat),
    Try("schemathesis", "requests made of the OpenAPI document", run_schemathesis),
)


def main(python: str, *names: str) -> int:
    """Runs all, or those that are named, and prints; the exit status."""
    rows: dict[str, bool] = {}
    with served() as port, scripted_api() as scripted, tempfile.TemporaryDirectory() as temporary:
        print(f"{'client':18} {'what':50} result")
        for each in (each for each in TRIES if not names or each.name in names):
            folder = Path(temporary) / each.name.replace(" ", "_")
            folder.mkdir()
            place = Place(os.path.abspath(python), folder, f"http://127.0.0.1:{port}/v1", scripted)
            began_s = time.monotonic()
            try:
                result = each.run(place)
            except (subprocess.CalledProcessError, AssertionError) as error:
                result = f"FAILED\n{getattr(error, 'output', None) or error}"
            rows[each.name] = not result.startswith("FAILED")
            print(f"{each.name:18} {each.what:50} {result} ({time.monotonic() - began_s:.0f} s)", flush=True)
    print(json.dumps({"clients": rows}))
    return 0 if all(rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
