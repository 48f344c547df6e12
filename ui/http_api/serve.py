"""The API alone on a port: opens it, then starts loading the model, and ends both in order.

The page's port has the same routes behind the same guard; this is `app.py serve`, without the page.
"""

import os
import signal
import socket
import threading
from functools import partial
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from model_loader.background_load import BackgroundLoad
from model_loader.process_memory import share_one_heap
from ui.addresses import check_address, is_local, listen, names_of
from ui.chat.load_printer import LoadPrinter
from ui.guard import Guard, GuardPolicy
from ui.http_api.server import Api
from ui.limits import Traffic, TrafficLimits
from ui.request_head import PromptHeadProtocol

_LOOK_S = 0.2
_ANSWERS_END_S = 5.0
_CONNECTIONS_END_S = 2
_MAX_CONNECTIONS = 512
LIMITS = TrafficLimits(burst=1000, per_s=100.0, at_once=300, total_at_once=480)
"""What a client may ask: more than may run and wait, so that whoever has a key is refused by the queue alone; and less
in all than uvicorn has connections, so that a refusal has OpenAI's form."""


class ServedApi:
    """An API whose port is open; the server runs on a thread of its own.

    Attributes:
        url: what clients take for their base URL.

    Raises:
        InvalidSetting: the address and port cannot be listened on.
    """

    def __init__(self, api: Api, load: BackgroundLoad, server_name: str, server_port: int) -> None:
        check_address(server_name, server_port)
        self._api = api
        self._load = load
        listening = listen("The API", server_name, server_port)
        self.url = f"http://{_authority(server_name, server_port)}{api.prefix.rstrip('/')}"
        config = uvicorn.Config(
            application(api, server_name),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            http=PromptHeadProtocol,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_CONNECTIONS_END_S,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, args=(listening,), name="api-server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Lets running answers end, for some seconds, then cuts them; closes the port and the model."""
        self._api.drain(_ANSWERS_END_S)
        self._load.close()
        self._server.should_exit = True
        self._thread.join(_CONNECTIONS_END_S + 1.0)

    def _run(self, listening: socket.socket) -> None:
        self._server.run(sockets=[listening])


def application(api: Api, server_name: str) -> Guard:
    """The routes behind the guard, for a server that listens on the address.

    Checking host names keeps foreign pages from reaching a server without a key by a name of theirs. With a key, and
    behind a proxy or in a container, a server cannot know its names and need not.
    """
    hosts = ("*",) if api.needs_key and not is_local(server_name) else tuple(names_of(server_name))
    policy = GuardPolicy(routes=api.guarded, allowed_hosts=hosts, api_prefix=api.prefix)
    return Guard(Starlette(routes=list(api.routes)), policy=policy, traffic=Traffic(LIMITS))


def serve_api(load: BackgroundLoad, api: Api, server_name: str, server_port: int) -> int:
    """Serves the API until SIGINT or SIGTERM; a second signal ends the program at once. Returns the exit status.

    Without a model it ends with status 2: whoever keeps it running shall see it, and may begin it again.

    Raises:
        InvalidSetting: the address and port cannot be listened on.
    """
    has_signal = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        if has_signal.is_set():
            os._exit(1)
        has_signal.set()

    share_one_heap()
    served = ServedApi(api, load, server_name, server_port)
    load.start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    print(f"The API is at {served.url}", flush=True)
    printer = LoadPrinter(load, partial(print, flush=True))
    while not has_signal.wait(_LOOK_S):
        if printer.poll() and load.chat_model is None:
            served.close()
            return 2
    print("Ending; running answers have a few seconds.", flush=True)
    served.close()
    return 0


def _authority(server_name: str, server_port: int) -> str:
    host = server_name.strip("[]")
    return f"[{host}]:{server_port}" if ":" in host else f"{host}:{server_port}"
