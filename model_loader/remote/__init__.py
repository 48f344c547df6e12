"""The same stream of events from an OpenAI-compatible server elsewhere: vLLM, SGLang, llama.cpp, Ollama, this program.

    base URL --connect--> Connection --ask /v1/models--> ServedModel
    messages --chat_body--> JSON --POST, server-sent events--> chunks --ChunkReader--> events

`connection` is the only part that touches a socket; `options`, `request_body`, `server_sent_events`, `chunk_reader` and
`failures` work on values. `remote_model` composes them into what the front ends read; nothing here knows any of those.
"""
