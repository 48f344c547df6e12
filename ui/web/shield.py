"""Around every handler of the page: a fault becomes a sentence with an id for the user, and an entry in the log.

Without it Gradio would say "Error" to the user and print the exception, which may quote what somebody wrote.
"""

import contextlib
import functools
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from ui.chat.fault import log_fault
from ui.web.strings import Language, say
from ui.web.wiring import request_language

logger = logging.getLogger(__name__)


def shield_handlers(page: gr.Blocks) -> None:
    """Puts the shield around all handlers that the page's events call."""
    for event in page.fns.values():
        if event.fn is not None:
            event.fn = _shielded(event.fn)


def _shielded(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The same handler for Gradio, which looks at its kind, its name and its parameters."""
    if inspect.isasyncgenfunction(handler):

        @functools.wraps(handler)
        async def stream(*values: Any) -> AsyncIterator[Any]:
            try:
                async with contextlib.aclosing(handler(*values)) as shown:
                    async for value in shown:
                        yield value
            except Exception as error:
                raise _for_user(handler, error) from None

        return stream

    if inspect.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def answer_later(*values: Any) -> Any:
            try:
                return await handler(*values)
            except Exception as error:
                raise _for_user(handler, error) from None

        return answer_later

    @functools.wraps(handler)
    def answer(*values: Any) -> Any:
        try:
            return handler(*values)
        except Exception as error:
            raise _for_user(handler, error) from None

    return answer


def _for_user(handler: Callable[..., Any], error: Exception) -> gr.Error:
    if isinstance(error, gr.Error):
        return error
    fault_id = log_fault(logger, f"{getattr(handler, '__qualname__', 'A handler')} failed", error)
    request = LocalContext.request.get(None)
    language: Language = "en" if request is None else request_language(request)
    return gr.Error(say(language, "fault", fault_id=fault_id), title=say(language, "title"), print_exception=False)
