"""From a checkpoint name to a stream of events; no user interface lives in here.

    name --resolve--> Checkpoint --choose--> Placement --load--> LoadedModel
    messages --render--> prompt ids --Engine--> token ids --read--> events

`checkpoint` turns a name into files and facts without torch; `loading` decides where the weights go and puts them
there; `engine` turns token ids into token ids on one background thread and knows no text; `chat_format` turns
messages into ids and ids back into text and knows no model. The two halves meet in `chat_model` alone.
"""
