#!/usr/bin/env python3
"""The one entry: reads the command line and the environment, then opens the chat page or runs a command.

Every flag may also be given as an environment variable, QWEN_DEMO_ and the flag's name: QWEN_DEMO_SERVER_PORT=9000.
Command lines end here; what they ask for goes on as frozen dataclasses. Importing this module, and `--help`, import
neither torch nor gradio.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from model_loader.background_load import BackgroundLoad, OpenChatModel
from model_loader.checkpoint.hub import HubOptions
from model_loader.errors import InvalidSetting, ModelLoaderError
from model_loader.loading.placement import LoadOptions
from model_loader.model_menu import ModelMenu
from model_loader.open_model import open_chat_model
from model_loader.remote.options import RemoteOptions
from ui.addresses import check_address
from ui.command_line import (
    build_chat_parser,
    build_parser,
    build_perplexity_parser,
    build_profile_parser,
    build_serve_parser,
    environment_arguments,
    is_hosted,
)
from ui.http_api.options import read_options
from ui.terminal.options import ChatOptions
from ui.web.login.accounts import read_accounts
from ui.web.login.options import SharingOptions
from ui.web.options import PageOptions


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs the application until it is stopped, or a command of it; returns the exit status."""
    try:
        match list(arguments):
            case ["chat", *rest]:
                return _chat(rest, environment)
            case ["serve", *rest]:
                return _serve_api(rest, environment)
            case ["profile", *rest]:
                return _profile(_read(build_profile_parser(), rest, environment))
            case ["evaluate", "perplexity", *rest]:
                return _perplexity(_read(build_perplexity_parser(), rest, environment))
            case ["evaluate", *_]:
                raise InvalidSetting("app.py evaluate takes what is to be measured: app.py evaluate perplexity TEXT")
        return _serve(arguments, environment)
    except ModelLoaderError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2


def _read(
    parser: argparse.ArgumentParser, arguments: Sequence[str], environment: Mapping[str, str]
) -> argparse.Namespace:
    return parser.parse_args([*environment_arguments(parser, environment), *arguments])


def _serve(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    parser = build_parser(environment)
    given = _read(parser, arguments, environment)
    has_accounts = bool(given.auth) or given.auth_file is not None
    read_accounts(given.auth or (), given.auth_file)  # so that a mistake is told before anything else
    sharing = SharingOptions(
        given.share,
        tuple(given.auth or ()),
        given.auth_file,
        given.public or (is_hosted(environment) and not has_accounts),
        given.trusted_proxy,
        given.login_hours,
        given.max_guests,
        given.guest_tokens or None,
    )
    options = PageOptions(
        given.server_name,
        given.server_port,
        given.inbrowser,
        given.linger,
        given.allow_model_switch,
        None if given.no_history else given.history,
        given.keep_days,
        sharing=sharing,
        is_remote=given.base_url is not None,
    )
    api_options = read_options(given.api_key, given.api_key_file, given.cors_origin)
    load = BackgroundLoad(model_opener(given, parser))
    from ui.http_api.server import Api
    from ui.web.launch import serve_page  # imports gradio

    missing = (
        None
        if given.no_api
        else api_options.missing_key(given.server_name, is_shared=options.is_shared or options.needs_login)
    )
    if missing is not None:
        print(f"The API is off: {missing}.", file=sys.stderr)
    api = None if given.no_api or missing is not None else Api(load, api_options)
    has_menu = given.base_url is None  # a server's models are its owner's business
    menu = ModelMenu(load, load_options(given), HubOptions(given.hub, given.revision)) if has_menu else None
    return serve_page(load, options, menu, api)


def load_options(given: argparse.Namespace) -> LoadOptions:
    """What the flags say about loading a model here."""
    return LoadOptions(given.precision, given.cpu_only, given.long_context, given.context_length)


def model_opener(given: argparse.Namespace, parser: argparse.ArgumentParser) -> OpenChatModel:
    """How to come by the model: by loading it here, or from the server that --base-url names.

    Raises:
        InvalidSetting: the address or the key is none, or a flag was given that concerns loading a model here.
    """
    if given.base_url is None:
        if given.base_url_key is not None:
            raise InvalidSetting("--base-url-key is the key of another server; give its address with --base-url.")
        hub = HubOptions(given.hub, given.revision)
        return partial(open_chat_model, given.checkpoint_path, load_options(given), hub=hub)
    for name in ("precision", "cpu_only", "long_context", "hub", "revision", "allow_model_switch"):
        if getattr(given, name, None) != parser.get_default(name):
            flag = f"--{name.replace('_', '-')}"
            raise InvalidSetting(f"{flag} concerns a model that is loaded here; leave it out with --base-url.")
    options = RemoteOptions(given.base_url, given.base_url_key or "", given.context_length)
    from model_loader.remote.remote_model import open_remote_model  # imports httpx

    return partial(open_remote_model, options, given.checkpoint_path)


def _chat(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    parser = build_chat_parser()
    given = _read(parser, arguments, environment)
    options = ChatOptions(given.seed, given.system, None if given.no_history else given.history)
    load = BackgroundLoad(model_opener(given, parser))
    from ui.terminal.chat import run_chat  # imports rich and prompt_toolkit

    return run_chat(load, options)


def _serve_api(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    parser = build_serve_parser()
    given = _read(parser, arguments, environment)
    options = read_options(given.api_key, given.api_key_file, given.cors_origin)
    check_address(given.server_name, given.server_port)
    missing = options.missing_key(given.server_name)
    if missing is not None:
        raise InvalidSetting(f"The API needs a key there: {missing}.")
    load = BackgroundLoad(model_opener(given, parser))
    from ui.http_api.serve import serve_api
    from ui.http_api.server import Api

    return serve_api(load, Api(load, options), given.server_name, given.server_port)


def _profile(given: argparse.Namespace) -> int:
    from model_loader.measure.profile import measure_profile  # imports torch
    from ui.terminal.measurements import ProgressLine, check_plot, print_profile

    check_plot(given.plot)
    progress = ProgressLine()
    options, hub = LoadOptions(given.precision, given.cpu_only), HubOptions(given.hub, given.revision)
    rows = list(measure_profile(given.checkpoint_path, options, hub, progress.show, is_quick=given.quick))
    progress.clear()
    print_profile(given.checkpoint_path, rows, given.plot, print)
    return 0


def _perplexity(given: argparse.Namespace) -> int:
    from model_loader.measure.perplexity import measure_perplexity  # imports torch
    from ui.terminal.measurements import ProgressLine, check_plot, print_perplexity

    check_plot(given.plot)
    try:
        lengths = [int(length) for length in given.lengths.split(",")]
    except ValueError:
        raise InvalidSetting(f"--lengths is {given.lengths!r}; give numbers of tokens with commas.") from None
    if given.pieces < 1:
        raise InvalidSetting(f"--pieces is {given.pieces}; give at least 1.")
    progress = ProgressLine()
    options, hub = LoadOptions(given.precision, given.cpu_only), HubOptions(given.hub, given.revision)
    rows = list(
        measure_perplexity(
            given.checkpoint_path, given.texts, lengths, options, hub, progress.show, max_pieces=given.pieces
        )
    )
    progress.clear()
    print_perplexity(given.checkpoint_path, rows, given.plot, print)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
