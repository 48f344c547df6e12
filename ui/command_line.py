"""Which flags each command takes, and the environment variables that stand for them; no command runs here.

Importing it imports neither torch nor gradio: `--help` is quick.
"""

import argparse
import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from model_loader.checkpoint.hub import ANY_HUB, Hub
from model_loader.checkpoint.resolve import BUILTIN_NAME
from model_loader.errors import InvalidSetting
from model_loader.loading.placement import Precision
from ui.chat.place import default_history
from ui.terminal.options import ChatOptions
from ui.web.login.options import SharingOptions
from ui.web.options import PageOptions

_ENVIRONMENT_PREFIX = "QWEN_DEMO_"


def build_parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """The command line of the page; its defaults are those of the place it runs in."""
    hosted = PageOptions(server_name="0.0.0.0", server_port=7860)  # noqa: S104 - behind the proxy of a Space
    page = hosted if is_hosted(environment) else PageOptions()
    parser = argparse.ArgumentParser(
        prog="app.py",
        description="Chat with a Qwen model in the browser, on this machine.",
        epilog=f"Each flag is also an environment variable, such as {_ENVIRONMENT_PREFIX}SERVER_PORT=9000. Besides "
        "the page there are the commands 'app.py chat', 'app.py serve', 'app.py profile' and 'app.py evaluate "
        "perplexity', each with "
        "its own --help.",
        allow_abbrev=False,
    )
    _add_model_flags(parser)
    _add_server_flags(parser)
    _add_window_flags(parser)
    parser.add_argument("--inbrowser", action="store_true", help="open the page in the default browser")
    _add_address_flags(parser, page)
    parser.add_argument(
        "--linger",
        default=page.linger_s,
        type=float,
        metavar="SECONDS",
        help="how long an answer goes on after its page was closed (default: %(default)g)",
    )
    _add_history_flags(parser)
    parser.add_argument(
        "--keep-days", type=float, metavar="DAYS", help="delete conversations unused for so long (default: never)"
    )
    parser.add_argument(
        "--allow-model-switch",
        action="store_true",
        help="let the page exchange the model although others can reach it",
    )
    _add_api_flags(parser)
    parser.add_argument("--no-api", action="store_true", help="the page alone, without the API beside it")
    _add_sharing_flags(parser)
    return parser


def build_chat_parser() -> argparse.ArgumentParser:
    """The command line of `app.py chat`."""
    parser = argparse.ArgumentParser(
        prog="app.py chat",
        description="Chat with a Qwen model in this terminal. What is piped in is one question: the answer goes to "
        "standard output, everything else to standard error.",
        epilog=f"Each flag is also an environment variable, such as {_ENVIRONMENT_PREFIX}SEED=7.",
        allow_abbrev=False,
    )
    _add_model_flags(parser)
    _add_server_flags(parser)
    _add_window_flags(parser)
    parser.add_argument(
        "-s",
        "--seed",
        type=int,
        default=ChatOptions().seed,
        metavar="N",
        help="set before every answer: the same questions get the same answers (default: %(default)s)",
    )
    parser.add_argument("--system", metavar="TEXT", help='system prompt, "" for none (default: the checkpoint\'s)')
    _add_history_flags(parser)
    return parser


def build_serve_parser() -> argparse.ArgumentParser:
    """The command line of `app.py serve`."""
    parser = argparse.ArgumentParser(
        prog="app.py serve",
        description="Serve a Qwen model to programs, by an OpenAI-compatible API.",
        epilog=f"Each flag is also an environment variable, such as {_ENVIRONMENT_PREFIX}API_KEY.",
        allow_abbrev=False,
    )
    _add_model_flags(parser)
    _add_server_flags(parser)
    _add_window_flags(parser)
    _add_address_flags(parser, PageOptions())
    _add_api_flags(parser)
    return parser


def build_profile_parser() -> argparse.ArgumentParser:
    """The command line of `app.py profile`."""
    parser = argparse.ArgumentParser(
        prog="app.py profile",
        description="Measure speed and memory of generating.",
        allow_abbrev=False,
    )
    _add_model_flags(parser)
    parser.add_argument("--quick", action="store_true", help="short texts; figures for a first look")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the speeds into a .png or .svg")
    return parser


def build_perplexity_parser() -> argparse.ArgumentParser:
    """The command line of `app.py evaluate perplexity`."""
    parser = argparse.ArgumentParser(
        prog="app.py evaluate perplexity",
        description="Measure how well a checkpoint predicts texts of growing length.",
        allow_abbrev=False,
    )
    parser.add_argument("texts", type=Path, nargs="+", metavar="TEXT", help="files in UTF-8")
    _add_model_flags(parser)
    parser.add_argument(
        "--lengths", default="1024,2048,4096,8192,16384", help="tokens in a piece, with commas (default: %(default)s)"
    )
    parser.add_argument(
        "--pieces", type=int, default=16, metavar="N", help="pieces read of each length at most (default: %(default)s)"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the table into a .png or .svg")
    return parser


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c",
        "--checkpoint-path",
        default=BUILTIN_NAME,
        metavar="NAME",
        help="folder or hub name of the model, such as Qwen/Qwen3-4B (default: %(default)s, a small guide)",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=get_args(Precision),
        help="number format of the weights (default: %(default)s, what suits the machine)",
    )
    parser.add_argument("--cpu-only", action="store_true", help="leave a GPU alone")
    parser.add_argument(
        "--hub",
        default=ANY_HUB.hub,
        choices=get_args(Hub),
        help="where names are looked up (default: %(default)s, whichever hub can be reached)",
    )
    parser.add_argument("--revision", metavar="NAME", help="branch, tag or commit of a hub checkpoint")


def _add_window_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--long-context",
        metavar="METHODS",
        help="of Qwen-1: ntk, logn and window with commas, or none (default: as the checkpoint says)",
    )
    parser.add_argument(
        "--context-length",
        type=int,
        metavar="TOKENS",
        help="the window: less to save memory, more by NTK or YaRN (default: the checkpoint's)",
    )


def _add_history_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--history",
        type=_file,
        default=default_history(),
        metavar="FILE",
        help="where conversations are kept (default: %(default)s)",
    )
    parser.add_argument("--no-history", action="store_true", help="keep conversations in memory only")


def _add_server_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="have an OpenAI-compatible server answer, such as http://127.0.0.1:8001/v1; -c chooses among its models",
    )
    parser.add_argument(
        "--base-url-key",
        metavar="KEY",
        help=f"the key it wants; better as {_ENVIRONMENT_PREFIX}BASE_URL_KEY, because others see command lines",
    )


def _add_address_flags(parser: argparse.ArgumentParser, page: PageOptions) -> None:
    parser.add_argument("--server-name", default=page.server_name, metavar="ADDRESS", help="default: %(default)s")
    parser.add_argument(
        "--server-port", default=page.server_port, type=int, metavar="PORT", help="default: %(default)s"
    )


def _add_api_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help=f"what programs must send to use the API; better as {_ENVIRONMENT_PREFIX}API_KEY or in a file, because "
        "others see command lines (needed where others can reach the address)",
    )
    parser.add_argument(
        "--api-key-file", type=_file, metavar="FILE", help="the same, in a file with a key in each line"
    )
    parser.add_argument(
        "--cors-origin",
        metavar="SITES",
        help="sites whose pages may use the API, such as https://chat.example, with commas (default: none)",
    )


def _add_sharing_flags(parser: argparse.ArgumentParser) -> None:
    sharing = SharingOptions()
    parser.add_argument("--share", action="store_true", help="make a public link, by Gradio's tunnel, behind a login")
    parser.add_argument(
        "--auth",
        action="append",
        metavar="NAME:PASSWORD",
        help="who may log in; may be given several times, and the name 'host' sees who is on (default: one password "
        "for everybody, made up where others can reach the page)",
    )
    parser.add_argument(
        "--auth-file", type=_file, metavar="FILE", help="the same, in a file with NAME:PASSWORD in each line"
    )
    parser.add_argument(
        "--public",
        action="store_true",
        help="no login: whoever reaches the page may use it (on Spaces and Studios: on)",
    )
    parser.add_argument(
        "--trusted-proxy",
        metavar="NAME",
        help="host name under which your proxy serves the page; its X-Forwarded headers are believed (default: none)",
    )
    parser.add_argument(
        "--login-hours",
        default=sharing.login_hours,
        type=float,
        metavar="HOURS",
        help="how long a login lasts (default: %(default)g)",
    )
    parser.add_argument(
        "--max-guests",
        default=sharing.max_guests,
        type=int,
        metavar="N",
        help="guests who may be there at once (default: %(default)s)",
    )
    parser.add_argument(
        "--guest-tokens",
        default=sharing.guest_tokens,
        type=int,
        metavar="N",
        help="tokens that a guest may have read and written in an hour; 0 for any number (default: %(default)s)",
    )


def _file(text: str) -> Path:
    """A path; a shell leaves the ~ of `--history=~/x.db` as it is."""
    return Path(os.path.expanduser(text))


def is_hosted(environment: Mapping[str, str]) -> bool:
    """Whether this is a Space or a Studio, open to the world by intent."""
    return bool(environment.get("SPACE_ID")) or environment.get("MODELSCOPE_ENVIRONMENT") == "studio"


def environment_arguments(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> list[str]:
    """The QWEN_DEMO_ variables as command-line arguments, to be put before the real ones.

    Variables that belong to another command's flags are left to that command.

    Raises:
        InvalidSetting: a variable names no flag of any command, or a switch is neither 1/true nor 0/false.
    """
    flags = _variables(parser)
    known = {
        name: action
        for known_parser in (build_parser({}), build_chat_parser(), build_serve_parser(), parser)
        for name, action in _variables(known_parser).items()
    }
    arguments = []
    for variable, value in sorted(environment.items()):
        if not variable.startswith(_ENVIRONMENT_PREFIX):
            continue
        if variable not in known:
            nearest = difflib.get_close_matches(variable, known, n=1, cutoff=0.0)[0]
            raise InvalidSetting(f"The environment sets {variable}, which is no setting; did you mean {nearest}?")
        if variable not in flags:
            continue
        action = flags[variable]
        if action.nargs != 0:
            arguments.append(f"{action.option_strings[-1]}={value}")
        elif value.lower() in ("1", "true"):
            arguments.append(action.option_strings[-1])
        elif value.lower() not in ("0", "false", ""):
            raise InvalidSetting(f"{variable} is {value!r}; use 1 or 0.")
    return arguments


def _variables(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The flags of a command by their environment variables."""
    flags = [action for action in parser._actions if action.option_strings and action.dest != "help"]
    return {_ENVIRONMENT_PREFIX + action.dest.upper(): action for action in flags}
