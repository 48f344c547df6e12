"""What a client is told when something is not done: statuses and bodies of OpenAI's error form.

In: our errors. Out: `ApiError`, which knows its status, body and headers. A message never holds more of the request
than the name of a field and the beginning of its value.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from model_loader.errors import (
    CheckpointNotFound,
    ContextLengthExceeded,
    EngineStopped,
    GenerationFailed,
    InvalidSetting,
    ServerBusy,
    ServerIncompatible,
    ServerRefusesKey,
    ServerUnreachable,
)

logger = logging.getLogger(__name__)

RETRY_S = 2
"""When a client may try again after a passing trouble, in seconds."""


class ApiError(Exception):
    """A request that is not carried out.

    Attributes:
        status: of HTTP.
        code: OpenAI's word for the kind of error, where there is one.
        param: the field that is to blame, as in "messages[0].content".
        headers: what goes with it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The whole body of the answer."""
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = "server_error" if self.status >= 500 else kinds.get(self.status, "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def to_json(self) -> bytes:
        """The body as sent; in ASCII, because a field's name may hold half a character."""
        return json.dumps(self.body).encode("ascii")


def unavailable(message: str) -> ApiError:
    """A trouble that passes."""
    return ApiError(503, message, code="unavailable", headers={"retry-after": str(RETRY_S)})


def api_error(error: Exception) -> ApiError:
    """Any error as the client is told of it; one that was not foreseen is logged and not told."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ContextLengthExceeded):
        return ApiError(400, str(error), code="context_length_exceeded")
    if isinstance(error, InvalidSetting):
        return ApiError(400, str(error), code="invalid_value")
    if isinstance(error, EngineStopped | ServerBusy):
        return unavailable(str(error))
    if isinstance(error, ServerUnreachable | ServerRefusesKey | ServerIncompatible | CheckpointNotFound):
        return ApiError(502, str(error), code="bad_gateway")
    if isinstance(error, GenerationFailed):
        return ApiError(500, str(error), code="generation_failed")
    logger.error("A request to the API failed", exc_info=error)
    return ApiError(500, "The request failed inside the server; the program's log says why.", code="internal_error")
