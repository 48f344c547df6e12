"""From the bytes of a request to a checked request model, or to one error that names the field.

It refuses what parsers disagree about: doubled keys, numbers that are none, text that is no Unicode.
"""

import difflib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ui.http_api.errors import ApiError

Model = TypeVar("Model", bound=BaseModel)
_MAX_SHOWN = 60


def read_body(body: bytes, headers: Mapping[str, str], model: type[Model]) -> Model:
    """The request that a body holds.

    Raises:
        ApiError: 415 for another media type, 400 for anything that is no such request.
    """
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiError(415, "The body must be JSON; send it with the header 'Content-Type: application/json'.")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise ApiError(415, "The body is compressed; send it as it is.")
    try:
        return model.model_validate(_parse(body))
    except ValidationError as error:
        raise _field_error(error.errors(include_url=False)[0], model) from None


def _parse(body: bytes) -> Any:
    try:
        found = json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_number)
        if b"\\ud" in body or b"\\uD" in body:  # half a surrogate pair can be escaped; UTF-8 cannot hold it
            json.dumps(found, ensure_ascii=False).encode("utf-8")
        return found
    except RecursionError:
        raise ApiError(400, "The body is nested too deeply.") from None
    except ValueError as error:
        # UnicodeError and JSONDecodeError are among them; their own texts repeat the input or say less.
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise ApiError(400, f"The body is no JSON that can be read{where}.") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        doubled = next(key for key in keys if keys.count(key) > 1) if len(keys) < 1000 else "a key"
        raise ApiError(400, f"The body has {_shown(doubled)} twice in one object.")
    return found


def _no_number(word: str) -> Any:
    raise ApiError(400, f"The body has {word}, which is no number in JSON.")


def _field_error(details: ErrorDetails, model: type[BaseModel]) -> ApiError:
    names = [each for each in details["loc"] if not (isinstance(each, str) and each.startswith(("(", "[")))]
    context = details.get("ctx", {})
    if details["type"] == "conflict" and context.get("param"):
        names.append(context["param"])
    param = _path(names)
    if details["type"] == "extra_forbidden":
        return ApiError(400, _unknown(param, names, model), code="unknown_parameter", param=param)
    if details["type"] == "missing":
        return ApiError(400, f"{param} is missing.", code="missing_required_parameter", param=param)
    what = f"{param} is not accepted" if param else "The request is not accepted"
    if details["type"] not in ("conflict", "model_type", "value_error"):
        what = f"{param} is {_shown(details['input'])}"
    return ApiError(400, f"{what}: {_reason(details)}.", code="invalid_value", param=param or None)


def _reason(details: ErrorDetails) -> str:
    if details["type"] == "union_tag_invalid":
        return "it has none of the forms that this field takes"
    if details["type"] == "model_type":
        return "it must be an object"
    message = details["msg"]
    return message[0].lower() + message[1:]


def _path(names: list[int | str]) -> str:
    """As in messages[0].content; what the client called it is cut to a length that can be shown."""
    path = ""
    for name in names:
        path += f"[{name}]" if isinstance(name, int) else f".{name[:_MAX_SHOWN]}"
    return path.lstrip(".")


def _unknown(param: str, names: list[int | str], model: type[BaseModel]) -> str:
    near = difflib.get_close_matches(str(names[0])[:_MAX_SHOWN], model.model_fields, n=1) if len(names) == 1 else []
    return f"{param} is no field that this server knows; " + (
        f"did you mean {near[0]}?" if near else "leave it out, for it would change nothing."
    )


def _shown(value: Any) -> str:
    """The beginning of a value; of a long or nested one its kind alone, because `repr` would walk all of it."""
    if isinstance(value, dict | list | tuple):
        return "an object" if isinstance(value, dict) else "a list"
    shown = repr(value[: _MAX_SHOWN + 1] if isinstance(value, str) else value)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]} ..."
