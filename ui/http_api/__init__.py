"""The OpenAI-compatible API: requests in, events of a `ChatModel` out as JSON or as server-sent events."""
