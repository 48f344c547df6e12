#!/usr/bin/env python3
"""The one entry: reads the command line and the environment, then opens the chat page.

Every flag may also be given as an environment variable, QWEN_DEMO_ and the flag's name: QWEN_DEMO_SERVER_PORT=9000.
Command lines end here; what they ask for goes on as frozen dataclasses. Importing this module, and `--help`, import
neither torch nor gradio.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import get_args

from model_loader.background_load import BackgroundLoad
from model_loader.chat_model import open_chat_model
from model_loader.checkpoint.hub import ANY_HUB, Hub, HubOptions
from model_loader.checkpoint.resolve import BUILTIN_NAME
from model_loader.errors import InvalidSetting, ModelLoaderError
from model_loader.loading.placement import LoadOptions, Precision
from ui.web.options import PageOptions

_ENVIRONMENT_PREFIX = "QWEN_DEMO_"


def build_parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """The command line; its defaults are those of the place it runs in."""
    is_hosted = bool(environment.get("SPACE_ID")) or environment.get("MODELSCOPE_ENVIRONMENT") == "studio"
    page = PageOptions(server_name="0.0.0.0", server_port=7860) if is_hosted else PageOptions()
    parser = argparse.ArgumentParser(
        prog="app.py",
        description="Chat with a Qwen model in the browser, on this machine.",
        epilog=f"Each flag is also an environment variable, such as {_ENVIRONMENT_PREFIX}SERVER_PORT=9000.",
        allow_abbrev=False,
    )
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
    parser.add_argument("--inbrowser", action="store_true", help="open the page in the default browser")
    parser.add_argument("--server-name", default=page.server_name, metavar="ADDRESS", help="default: %(default)s")
    parser.add_argument(
        "--server-port", default=page.server_port, type=int, metavar="PORT", help="default: %(default)s"
    )
    parser.add_argument(
        "--linger",
        default=page.linger_s,
        type=float,
        metavar="SECONDS",
        help="how long an answer goes on after its page was closed (default: %(default)g)",
    )
    parser.add_argument("--share", action="store_true", help="a public link; refused until it can be guarded")
    return parser


def environment_arguments(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> list[str]:
    """The QWEN_DEMO_ variables as command-line arguments, to be put before the real ones.

    Raises:
        InvalidSetting: a variable names no flag, or a switch is neither 1/true nor 0/false.
    """
    flags = {_ENVIRONMENT_PREFIX + action.dest.upper(): action for action in parser._actions if action.dest != "help"}
    arguments = []
    for variable, value in sorted(environment.items()):
        if not variable.startswith(_ENVIRONMENT_PREFIX):
            continue
        if variable not in flags:
            nearest = difflib.get_close_matches(variable, flags, n=1, cutoff=0.0)[0]
            raise InvalidSetting(f"The environment sets {variable}, which is no setting; did you mean {nearest}?")
        action = flags[variable]
        if action.nargs != 0:
            arguments.append(f"{action.option_strings[-1]}={value}")
        elif value.lower() in ("1", "true"):
            arguments.append(action.option_strings[-1])
        elif value.lower() not in ("0", "false", ""):
            raise InvalidSetting(f"{variable} is {value!r}; use 1 or 0.")
    return arguments


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs the application until it is stopped; returns the exit status."""
    parser = build_parser(environment)
    try:
        given = parser.parse_args([*environment_arguments(parser, environment), *arguments])
        if given.share:
            raise InvalidSetting(
                "--share is not available yet: a public link needs logins and limits that are not built. Leave it "
                "out; the page is reachable on this machine."
            )
        options = PageOptions(given.server_name, given.server_port, given.inbrowser, given.linger)
        load_options = LoadOptions(given.precision, given.cpu_only, given.long_context, given.context_length)
        hub_options = HubOptions(given.hub, given.revision)
        from ui.web.launch import serve_page  # imports gradio

        open_model = partial(open_chat_model, given.checkpoint_path, load_options, hub=hub_options)
        return serve_page(BackgroundLoad(open_model), options)
    except ModelLoaderError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
