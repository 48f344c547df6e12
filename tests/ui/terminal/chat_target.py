"""The chat with a scripted model, as a program to be run on a pseudo-terminal or in a pipe.

    python -m tests.ui.terminal.chat_target SCRIPT.json

The script is a JSON object: `pieces` are the tokens of every answer, `reasoning` those of what is thought before,
`delay_s` the time between them, `is_base` whether the model only continues texts, `error` how the answer fails,
`load_error` why there is no model, `load_s` how long it takes to load, `notice_s` how long the program is busy after
each notice, and the rest are options of the chat.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model_loader.chat_format.messages import ToolUse
from model_loader.chat_model import Controls
from model_loader.errors import GenerationFailed, ModelLoaderError
from model_loader.events import Event, Finished, ReasoningDelta, TextDelta, Usage, Waiting
from tests.scripted_model import Script, ScriptedLoad, ScriptedModel
from ui.terminal import chat
from ui.terminal.notices import Notices
from ui.terminal.options import ChatOptions


class PiecesModel(ScriptedModel):
    """Says the same pieces each time; what it was asked is in them for `{question}` and `{seed}`."""

    def __init__(self, script: dict[str, Any]) -> None:
        super().__init__(Script())
        self.is_completion_model = script.get("is_base", False)
        self._pieces = script

    def _events(self, script: Script, question: str, tools: ToolUse, controls: Controls) -> Iterator[Event]:
        pieces, delay_s = self._pieces["pieces"], self._pieces.get("delay_s", 0.0)
        sampling = self.samplings[-1]
        yield Waiting(0, 5, 10)
        for thought in self._pieces.get("reasoning", []):
            time.sleep(delay_s)
            yield ReasoningDelta(thought)
        for piece in pieces:
            time.sleep(delay_s)
            piece = piece.replace("{question}", question).replace("{seed}", str(sampling and sampling.seed))
            yield TextDelta(piece)
        if "error" in self._pieces:
            raise GenerationFailed(self._pieces["error"])
        yield Finished("stop", Usage(len(question), len(pieces), 0, 0.0, 0.01, 0.5))


class SlowNotices(Notices):
    """Something else to do follows each."""

    wait_s = 0.0

    def say(self, text: str, style: str = "dim") -> None:
        super().say(text, style)
        time.sleep(self.wait_s)


def main(script: dict[str, Any]) -> int:
    """Runs the chat and returns its status, as `app.main` does."""
    load = ScriptedLoad(PiecesModel(script), is_loaded="load_s" not in script and "load_error" not in script)
    if "load_error" in script:
        load.fail(script["load_error"])
    elif "load_s" in script:
        timer = threading.Timer(script["load_s"], load.finish)
        timer.daemon = True
        timer.start()
    history = script.get("history")
    options = ChatOptions(script.get("seed", 1234), script.get("system"), Path(history) if history else None)
    SlowNotices.wait_s = script.get("notice_s", 0.0)
    chat.Notices = SlowNotices  # type: ignore[misc]
    try:
        return chat.run_chat(load, options)  # type: ignore[arg-type]
    except ModelLoaderError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
