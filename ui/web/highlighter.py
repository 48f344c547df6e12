"""What rendered messages need from the server: the highlighter's script under one address, and the names of buttons.

`static/rendering.js` fetches the script when the first code block asks for it. The address changes with the content, so
a browser may keep it for good.
"""

import hashlib
import json

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ui.guard import AllowedRoute
from ui.web.fragments import STATIC
from ui.web.strings import LANGUAGES, say

_HIGHLIGHTER = b"".join(
    (STATIC / "highlight" / name).read_bytes() for name in ("highlight-11.12.0.min.js", "worker.js")
)
_PATH = f"/highlight-{hashlib.sha256(_HIGHLIGHTER).hexdigest()[:12]}.js"
HIGHLIGHTER_ROUTES = (AllowedRoute(_PATH),)


def highlighter_routes() -> list[Route]:
    """The highlighter's route, as Starlette takes it."""

    async def highlighter(_request: Request) -> Response:
        fixed = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(_HIGHLIGHTER, media_type="text/javascript", headers=fixed)

    return [Route(_PATH, highlighter)]


def rendering_script() -> str:
    """`static/rendering.js` with the highlighter's address and the names of its buttons in every language."""
    names = {
        language: {
            "code": say(language, "code"),
            "copy": say(language, "copy_code"),
            "wrap": say(language, "wrap_lines"),
            "diagram": say(language, "diagram_failed"),
            "back": say(language, "footnote_back"),
        }
        for language in LANGUAGES
    }
    settings = json.dumps({"highlighter": _PATH.removeprefix("/"), "names": names}, ensure_ascii=False)
    script = (STATIC / "rendering.js").read_text(encoding="utf-8")
    return script.replace("/* settings */ {}", settings.replace("<", "\\u003c"), 1)
