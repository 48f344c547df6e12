"""A page on a free port with a scripted model, and what a user does on it in a browser."""

import gc
import socket
import time
from collections.abc import Callable
from typing import Any

from tests.browser import output_folder
from tests.scripted_model import Script, ScriptedLoad, ScriptedModel
from ui.chat.message import StoredMessage
from ui.web.launch import ServedPage
from ui.web.login.options import SharingOptions
from ui.web.options import PageOptions

WORDS = " ".join(f"word{number}" for number in range(400))
RICH = """## A table

| Checkpoint | Parameters |
|:--|--:|
| Qwen3-0.6B | 0.6 B |
| Qwen3-4B | 4.0 B |

```python
def double(number: int) -> int:
    return 2 * number
```

It costs $5 or $10, and $$\\frac{a}{b} = c$$ is a formula.
"""


class Served:
    """A page on a free port with a scripted model behind it."""

    def __init__(
        self,
        script: Script,
        *,
        is_loaded: bool = True,
        linger_s: float = 10.0,
        max_shown: int = 60,
        context_length: int = 4096,
        can_switch_thinking: bool = False,
        sharing: SharingOptions | None = None,
        port: int | None = None,
    ) -> None:
        self.model = ScriptedModel(script, context_length)
        self.model.can_switch_thinking = can_switch_thinking
        self.load = ScriptedLoad(self.model, is_loaded=is_loaded)
        if port is None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = int(free.getsockname()[1])
        self.port = port
        options = PageOptions(server_port=port, linger_s=linger_s, sharing=sharing or SharingOptions())
        self.page = ServedPage(self.load, options, max_shown=max_shown)  # type: ignore[arg-type]

    def open(self, page: Any) -> None:
        """Opens the page and waits until it knows its conversation."""
        page.goto(self.page.url)
        page.wait_for_selector("body[data-attached=yes]")

    def begin_again(self, script: Script) -> None:
        """As if it had just been opened."""
        for conversation in list(self.page.conversations._loaded.values()):
            self.page.answers.stop(conversation.id)
            self.page.conversations.delete_everything(conversation.owner)
        self.model.begin_again(script)

    def close(self) -> None:
        """Ends what runs and closes the port."""
        self.model.released.set()
        self.page.close()
        gc.collect()

    def paths(self) -> list[tuple[StoredMessage, ...]]:
        """The branches on screen of all conversations that are not empty."""
        conversations = self.page.conversations._loaded.values()
        return [path for path in (one.path() for one in conversations) if path]

    def path(self) -> tuple[StoredMessage, ...]:
        """The only branch there is, empty as long as there is none."""
        paths = self.paths()
        assert len(paths) <= 1
        return paths[0] if paths else ()


def is_cut_by_leaving(said: str) -> bool:
    """Whether Gradio complains about a stream that ended because the page was left; nobody can see that any more."""
    return said.startswith("AbortError: signal is aborted") or "Connection errored out" in said


def ask(page: Any, text: str) -> None:
    page.fill("#box textarea", text)
    page.press("#box textarea", "Enter")


def answers(page: Any) -> Any:
    return page.locator("#chatbot .bot-row")


def wait_until_answered(page: Any) -> None:
    page.wait_for_selector("#chatbot .foot:not(.live)")
    page.wait_for_selector("body[data-answering=no]")


def eventually(is_so: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def record(page: Any, expression: str) -> Callable[[], list[Any]]:
    """Begins to look at something whenever the page changes; what is called later gives the values it has had.

    For what comes and goes by itself: a busy machine may look for it too late. JavaScript's null is not kept, nor a
    value that was the last one already.
    """
    values = page.evaluate_handle(
        f"""() => {{
            const values = [];
            const look = () => {{
                const value = ({expression}) ?? null;
                if (value !== null && value !== values.at(-1)) values.push(value);
            }};
            const all = {{ attributes: true, characterData: true, childList: true, subtree: true }};
            new MutationObserver(look).observe(document, all);
            return values;
        }}"""
    )
    return lambda: list(values.json_value())


def shoot(page: Any, name: str) -> None:
    page.screenshot(path=output_folder() / f"page-{name}.png")
