"""Where conversations are kept unless the user says otherwise: the platform's folder for a program's data."""

from pathlib import Path

from platformdirs import user_data_path


def default_history() -> Path:
    """`history.db` in the user's data folder; nothing is made."""
    return user_data_path("qwen-chat", appauthor=False) / "history.db"
