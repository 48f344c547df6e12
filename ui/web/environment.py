"""Environment variables that must be right before Gradio is imported.

Gradio reads them at import or launch, and some win over explicit arguments: they could publish the page, serve files
or let the source be edited. This module imports nothing of Gradio and is run by the package itself.
"""

import os

_DROPPED = (
    "GRADIO_ALLOWED_PATHS",
    "GRADIO_BLOCKED_PATHS",
    "GRADIO_SHARE",
    "GRADIO_MCP_SERVER",
    "GRADIO_VIBE_MODE",
    "GRADIO_WATCH_DIRS",
    "GRADIO_PROFILING",
    "GRADIO_LOCAL_DEV_MODE",
    "GRADIO_ROOT_PATH",
    "GRADIO_SERVER_NAME",
    "GRADIO_SERVER_PORT",
    "GRADIO_DEBUG",
    "GRADIO_SSR_MODE",
    "GRADIO_HISTORY_BUCKET",
)


def close_doors() -> None:
    """Drops what could open the page to others and turns telemetry off."""
    for name in (*_DROPPED, *(name for name in os.environ if name.startswith("GRADIO_NODE_"))):
        os.environ.pop(name, None)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Gradio builds a table of all past events after each event, for a monitoring page that we do not have.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = "1000000000"
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"
