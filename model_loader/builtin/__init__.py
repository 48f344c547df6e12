"""The built-in checkpoint: a small Qwen2 model that knows this application, and everything it was made from.

`corpus/` holds what it may say, written by hand in three languages; `corpus.py` reads it, `phrasing.py` and
`dialogues.py` turn it into seeded training dialogues, `train.py` makes `checkpoint/` out of them and `evaluate.py`
measures the result on questions that were never trained on. The rest of the application knows the folder alone and
loads it like any other checkpoint.
"""

from pathlib import Path

CHECKPOINT_FOLDER = Path(__file__).parent / "checkpoint"
CORPUS_FOLDER = Path(__file__).parent / "corpus"
