"""Opens the page's port, then starts loading the model, and ends both in order.

What comes in is a load that has not begun and options; what goes out is a running page or, from `serve_page`, the
exit status after a signal. The port opens before torch is imported, because that takes the interpreter for seconds.
"""

import contextlib
import os
import re
import shutil
import signal
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from starlette.middleware import Middleware

from model_loader.background_load import BackgroundLoad
from model_loader.model_menu import ModelMenu
from model_loader.process_memory import settle, share_one_heap
from ui.addresses import is_local, listen, names_of
from ui.chat.allowance import Allowance
from ui.chat.answers import Answers
from ui.chat.conversation import Conversation
from ui.chat.conversations import Conversations
from ui.chat.database import Database
from ui.chat.drafts import Drafts
from ui.chat.load_printer import LoadPrinter
from ui.chat.store_limits import StoreLimits
from ui.guard import PAGE_ROUTES, POST, AllowedRoute, ASGIApp, GuardPolicy, guard_whole_app
from ui.request_head import PromptHeadProtocol
from ui.web.completion import CompletionHandlers
from ui.web.early_script import EarlyScript
from ui.web.environment import without_proxies
from ui.web.events import Events
from ui.web.files import FILE_ROUTE, FileHandlers
from ui.web.fragments import STATIC
from ui.web.handlers import Handlers
from ui.web.highlighter import HIGHLIGHTER_ROUTES, highlighter_routes, rendering_script
from ui.web.history import HistoryHandlers
from ui.web.login.gate import LOGIN_ROUTES
from ui.web.meter import MeterHandlers
from ui.web.model_menu import ModelMenuHandlers
from ui.web.options import PageOptions
from ui.web.page import PageHandlers, build_page
from ui.web.presets import PresetHandlers
from ui.web.receipts import ReceiptHandlers
from ui.web.render import SHOWN_MESSAGES
from ui.web.sessions import OpenSessions, keep_sessions_lean
from ui.web.sharing import Sharing
from ui.web.tabs import Tabs
from ui.web.theme import page_theme
from ui.web.transfer import TransferHandlers
from ui.web.wiring import I18N

_MAX_THREADS = 256
_END_S = 8.0
_ANSWERS_END_S = 2.0
_API_ENDS_S = 2.0
_LOOK_S = 0.2
_QUEUE_ENDS_S = 3.0


class MountedApi(Protocol):
    """An API that is served on the page's port.

    Attributes:
        needs_key: whether it answers only to those who bring a key.
        routes: as Starlette takes them.
        guarded: what the guard lets through to them.
        prefix: of its paths.
    """

    needs_key: bool
    routes: Sequence[Any]
    guarded: tuple[AllowedRoute, ...]
    prefix: str

    def drain(self, timeout_s: float) -> None:
        """Refuses what is new and waits for running answers, for so long at most."""


class ServedPage:
    """A page whose port is open.

    Attributes:
        url: where it is.
        conversations, answers, tabs: what it shows; tests look at them.
        has_saved: whether everything is on the disk, once it is being closed.
    """

    def __init__(
        self,
        load: BackgroundLoad,
        options: PageOptions,
        menu: ModelMenu | None = None,
        api: MountedApi | None = None,
        *,
        max_shown: int = SHOWN_MESSAGES,
    ) -> None:
        self.has_saved = False
        is_closed = options.is_shared or options.needs_login
        self._api = api if api is None or api.needs_key or not is_closed else None  # never open to strangers
        listen("The page", options.server_name, options.server_port).close()  # Gradio's message names no remedy
        self.conversations = _open_conversations(options, self._is_open)
        passes = frozenset(route.path for route in (self._api.guarded if self._api else ()))
        self.sharing = Sharing(options, self.conversations.database.owner_key, passes, self._end_guests)
        self.tabs = Tabs(max_shown, self.sharing.traffic.is_listening)
        allowance = Allowance(options.sharing.guest_tokens, options.sharing.max_guests)
        self.answers = Answers(load, self._is_watched, options.linger_s, self.conversations.save, allowance)
        self._load = load
        self._files = FileHandlers(load, self.conversations, self.tabs, Drafts())
        self._folder = Path(tempfile.mkdtemp(prefix="qwen-chat-"))  # mode 0700; nothing should ever land in it
        os.environ["GRADIO_TEMP_DIR"] = str(self._folder)
        may_switch = menu is not None and options.may_switch_model
        self.blocks = build_page(
            PageHandlers(
                Handlers(load, self.conversations, self.answers, self.tabs, allowance, self._files),
                HistoryHandlers(self.conversations, self.answers, self._files.drafts),
                MeterHandlers(load, self.conversations, self.answers, self._files.drafts),
                PresetHandlers(load, self.conversations),
                ReceiptHandlers(
                    load, self.conversations, allowance, self.sharing.traffic.is_listening, options.linger_s
                ),
                CompletionHandlers(load, allowance, self.sharing.traffic.is_listening),
                TransferHandlers(self.conversations),
                self._files,
                ModelMenuHandlers(load, menu, self.answers) if menu is not None and may_switch else None,
            ),
            is_remote=options.is_remote,
        )
        keep_sessions_lean()
        self.blocks.queue(max_size=_MAX_THREADS, default_concurrency_limit=None, api_open=False)
        self.url = self._open_port(options, [*highlighter_routes(), self._files.route])
        self.conversations.start_saving()

    def close(self) -> None:
        """Ends answers as interrupted, lets the streams show it, and closes the port and the model. Takes seconds."""
        if self._api is not None:
            self._api.drain(_API_ENDS_S)
        self.sharing.close()
        self._files.close()
        self.answers.close(_ANSWERS_END_S)
        deadline = time.monotonic() + _QUEUE_ENDS_S
        while any(self.blocks._queue.active_jobs) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.conversations.save_all()
        self.has_saved = self.conversations.problem is None
        self.blocks.close(verbose=False)
        self.conversations.close()
        self._load.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_open(self, conversation_id: str) -> bool:
        return self.tabs.num_showing(conversation_id) > 0 or self.answers.running(conversation_id) is not None

    def _is_watched(self, conversation: Conversation) -> bool:
        """Its reader may be looking at another conversation, and wants to find it answered on return."""
        return self.tabs.is_here(conversation.owner)

    def _end_guests(self) -> None:
        self.answers.interrupt_guests(_ANSWERS_END_S)

    def _within_guard(self, app: ASGIApp) -> ASGIApp:
        sessions = OpenSessions(self.blocks, self.sharing.traffic.is_listening)
        self.blocks.app.state_holder = sessions
        events = Events(
            lambda: {index: len(event.inputs) for index, event in self.blocks.fns.items()},
            sessions.num_pending,
            sessions.has_joined,
            sessions.note_hung_up,
        )
        return self.sharing.around(events.around(app))

    def _open_port(self, options: PageOptions, routes: Sequence[Any]) -> str:
        policy = page_policy(options, os.environ, self._api, self.sharing.link_name)
        with without_proxies():
            url = self._launch(options, policy, routes)
        self.blocks.server.config.http_protocol_class = PromptHeadProtocol  # read for each connection
        if options.inbrowser:
            webbrowser.open(self.sharing.host_link(url))
        return url

    def _launch(self, options: PageOptions, policy: GuardPolicy, routes: Sequence[Any]) -> str:
        _app, url, _share_url = self.blocks.launch(
            server_name=options.server_name,
            server_port=options.server_port,
            inbrowser=False,  # it would open the page without the link for its host
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            show_error=False,
            run_history=False,
            footer_links=[],
            enable_monitoring=False,
            pwa=False,
            ssr_mode=False,
            mcp_server=False,
            strict_cors=True,
            allowed_paths=[],
            max_file_size="1mb",
            max_threads=_MAX_THREADS,
            app_kwargs={
                "lifespan": guard_whole_app(policy, self.sharing.traffic, self._within_guard),
                "middleware": [Middleware(EarlyScript)],
                "openapi_url": None,
                "routes": [*routes, *(self._api.routes if self._api is not None else ())],
            },
            i18n=I18N,
            theme=page_theme(),
            head=page_head(has_login=options.needs_login or options.is_shared),
        )
        return str(url)


def _open_conversations(options: PageOptions, is_open: Callable[[str], bool]) -> Conversations:
    """The store that the options ask for.

    Raises:
        InvalidSetting: its file cannot be used.
    """
    if options.history is None:
        return Conversations(is_open)
    limits = StoreLimits(keeps_days=options.keep_days)
    return Conversations(is_open, limits, Database(options.history))


def launch_page(
    load: BackgroundLoad, options: PageOptions, menu: ModelMenu | None = None, api: MountedApi | None = None
) -> ServedPage:
    """Opens the port, then begins to load the model.

    Raises:
        InvalidSetting: the address and port cannot be listened on.
    """
    page = ServedPage(load, options, menu, api)
    load.start()
    return page


def serve_page(
    load: BackgroundLoad, options: PageOptions, menu: ModelMenu | None = None, api: MountedApi | None = None
) -> int:
    """Serves the page until SIGINT, SIGTERM or SIGHUP; a second one ends it at once. Returns the exit status.

    Raises:
        InvalidSetting: the address and port cannot be listened on.
    """
    has_signal = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        if has_signal.is_set():
            os._exit(1)
        has_signal.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, end)
    share_one_heap()
    page = launch_page(load, options, menu, api)
    settle()
    _say(f"The page is at {page.url}")
    page.sharing.announce(page.url, _say)
    if api is not None:
        _say(f"The API is at {page.url.rstrip('/')}{api.prefix.rstrip('/')}")
    for line in _history_lines(page.conversations.database):
        _say(line)
    printer = LoadPrinter(load, _say)
    while not has_signal.wait(_LOOK_S):
        printer.poll()
    _say("Ending; unfinished answers are kept as they are.")
    # For a model that hangs and for threads that Python waits for at its end; answers are saved long before.
    end_anyway = threading.Timer(_END_S, lambda: os._exit(0 if page.has_saved else 1))
    end_anyway.daemon = True
    end_anyway.start()
    page.close()
    return 0


def _say(line: str) -> None:
    """To the terminal, if there still is one: the page goes on without it."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def page_head(*, has_login: bool = False) -> str:
    """What goes into the page's head: `static/head.html` with styles and scripts in their places, and the login's line.

    The style is not given to Gradio as CSS: that would arrive after the first paint and with its selectors rewritten.
    """

    def inlined(match: re.Match[str]) -> str:
        name, tag = match[1], "style" if match[2] == "css" else "script"
        content = rendering_script() if name == "rendering.js" else (STATIC / name).read_text(encoding="utf-8")
        return f"<{tag}>\n{content}</{tag}>"

    head = re.sub(r"<!-- (\w+\.(css|js)) -->", inlined, (STATIC / "head.html").read_text(encoding="utf-8"))
    return head + ((STATIC / "login.html").read_text(encoding="utf-8") if has_login else "")


def page_policy(
    options: PageOptions,
    environment: Mapping[str, str],
    api: MountedApi | None = None,
    link_name: Callable[[], str | None] = lambda: None,
) -> GuardPolicy:
    """What the guard lets through to this page: its routes, and the names it is reached by.

    On a Hugging Face Space and in a ModelScope Studio the page stands in a frame, behind a proxy that speaks https.
    """
    hosts = [environment["SPACE_HOST"]] if environment.get("SPACE_HOST") else []
    frames: tuple[str, ...] = ("https://huggingface.co",) if environment.get("SPACE_ID") else ()
    if environment.get("MODELSCOPE_ENVIRONMENT") == "studio":
        hosts += ["*.modelscope.cn", "*.ms.show"]
        frames = ("https://modelscope.cn", "https://*.modelscope.cn")
    hosts += names_of(options.server_name)
    proxied = options.sharing.trusted_proxy
    if proxied is not None:
        hosts.append(proxied)
    elif options.needs_login and not is_local(options.server_name):
        hosts.append("*")  # a network has names for this machine that it does not know; a foreign page has no login
    return GuardPolicy(
        routes=(
            *PAGE_ROUTES,
            *HIGHLIGHTER_ROUTES,
            AllowedRoute("/gradio_api/run/predict", POST),  # events without a queue
            FILE_ROUTE,
            *(LOGIN_ROUTES if options.is_shared or options.needs_login else ()),
            *(api.guarded if api is not None else ()),
        ),
        allowed_hosts=tuple(hosts),
        frame_ancestors=frames,
        trusted_proxy=bool(frames) or proxied is not None,
        tunnel=link_name,
        api_prefix=api.prefix if api is not None else None,
    )


def _history_lines(database: Database) -> list[str]:
    """Where conversations are kept, for the terminal."""
    if database.place is None:
        return ["Conversations are kept in memory and end with this program."]
    lines = [f"Conversations are kept in {database.place}"]
    if database.set_aside is not None:
        lines.append(f"The file that was there is damaged; it was set aside as {database.set_aside}")
    return lines
