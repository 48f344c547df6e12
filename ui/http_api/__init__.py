"""The OpenAI-compatible API: requests in, events of a `ChatSource` out as JSON or as server-sent events."""
