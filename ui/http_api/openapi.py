"""The OpenAPI document of the API, made of the request models and of the `openai` package's response types."""

from typing import Any

from openai.types import Completion, Model
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from ui.http_api.chat_schema import ChatRequest
from ui.http_api.schema import CompletionRequest, LoadRequest

_REFUSALS = {
    400: "The request is none that can be carried out; the error names the field.",
    401: "A key is needed.",
    403: "A browser sent the request for another site.",
    404: "No such model, or no such path.",
    405: "The path does not take the method.",
    408: "The request took too long to arrive.",
    413: "The body is larger than the window has use for.",
    415: "The body is no JSON.",
    429: "Too many requests are waiting; Retry-After says when to ask again.",
    500: "The answer failed.",
    502: "The server behind this one does not answer as it should.",
    503: "The model is not there: it is loading, ending or has failed.",
}
_TO_READ = (400, 401, 404, 405, 503)


def document(model: str | None, *, has_keys: bool) -> dict[str, Any]:
    """The whole document.

    Args:
        model: the name under which one is served; None while there is none.
        has_keys: whether requests need a key.
    """
    schemas: dict[str, Any] = {"Error": _error_schema()}
    chat_answer = {"application/json": _schema(ChatCompletion, schemas), "text/event-stream": {}}
    answer = {"application/json": _schema(Completion, schemas), "text/event-stream": {}}
    load = _schema(LoadRequest, schemas)
    card = _schema(Model, schemas)
    cards = _object(object={"const": "list"}, data={"type": "array", "items": card["schema"]})
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    paths: dict[str, Any] = {
        "/v1/chat/completions": {"post": _operation("chat", chat_answer, _schema(ChatRequest, schemas))},
        "/v1/completions": {"post": _operation("complete", answer, _schema(CompletionRequest, schemas))},
        "/v1/models": {"get": _operation("list_models", {"application/json": {"schema": cards}})},
        "/v1/models/{name}": {"get": _operation("get_model", {"application/json": card}, parameters=[name])},
        "/v1/openapi.json": {"get": _operation("get_document", {"application/json": {"schema": {"type": "object"}}})},
        "/load_model": {"post": _operation("load_model", {"text/event-stream": {}}, load)},
        "/metrics": {"get": _operation("get_metrics", {"text/plain": {"schema": _TEXT}})},
        "/health": {"get": _public("get_health")},
        "/ready": {"get": _public("get_readiness")},
    }
    if model is not None:
        for request in (ChatRequest, CompletionRequest, LoadRequest):
            schemas[request.__name__]["properties"]["model"]["enum"] = [model]
    components: dict[str, Any] = {"schemas": schemas}
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Qwen Chat", "version": "1", "description": "An OpenAI-compatible API of one model."},
        "paths": paths,
        "components": components,
    }
    if has_keys:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        whole["security"] = [{"key": []}]
    return whole


_TEXT = {"type": "string"}


def _operation(name: str, content: dict[str, Any], body: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    statuses = _TO_READ if body is None else tuple(_REFUSALS)
    refusals = {str(status): {"description": _REFUSALS[status], "content": error} for status in statuses}
    operation = {"operationId": name, "responses": {"200": {"description": "Done.", "content": content}, **refusals}}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": body}}
    return {**operation, **more}


def _public(name: str) -> dict[str, Any]:
    """A route that is asked without a key and answers in one word."""
    content = {"application/json": {"schema": _object(status=_TEXT)}}
    answers = {status: {"description": text, "content": content} for status, text in (("200", "Yes."), ("503", "No."))}
    plain = {"description": _REFUSALS[405], "content": {"text/plain": {"schema": _TEXT}}}
    return {"operationId": name, "security": [], "responses": {**answers, "405": plain}}


def _schema(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    """A reference to a model's schema, which is added to those that there are."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schema.pop("$defs", {})
    schemas[model.__name__] = schema
    return {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _error_schema() -> dict[str, Any]:
    word = {"type": ["string", "null"]}
    return _object(error=_object(message=_TEXT, type=_TEXT, param=word, code=word))
