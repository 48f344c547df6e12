"""The OpenAI-compatible API: requests in, JSON or server-sent events out; it knows no page and no engine.

    bytes --body--> request (schema, chat_schema) --translate--> questions to a ChatSource
          --bridge--> events on the event loop --stream, completions--> OpenAI's objects --answering--> client

`server` has the routes, `access` the keys, `metrics` the figures; `serve` gives them a port of their own, and the page
may give them its own.
"""
