"""Environment variables that must be right before Gradio is imported.

Gradio reads them at import or launch, and some win over explicit arguments: they could publish the page, serve files
or let the source be edited. This module imports nothing of Gradio and is run by the package itself.
"""

import contextlib
import os
from collections.abc import Iterator


def close_doors() -> None:
    """Drops every setting of Gradio's from the environment, for all that we want we pass, and turns telemetry off."""
    for name in [name for name in os.environ if name.upper().startswith("GRADIO_")]:
        del os.environ[name]
    # The server would believe X-Forwarded headers of this machine, where the public link's tunnel ends.
    os.environ["FORWARDED_ALLOW_IPS"] = ""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Gradio builds a table of all past events after each event, for a monitoring page that we do not have.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = "1000000000"
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"


@contextlib.contextmanager
def without_proxies() -> Iterator[None]:
    """No proxy is used meanwhile: Gradio asks its own port whether it is open, and takes the environment's for that."""
    before = os.environ.get("no_proxy")
    os.environ["no_proxy"] = "*"
    try:
        yield
    finally:
        if before is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = before
