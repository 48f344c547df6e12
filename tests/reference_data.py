"""The vectors of 2023 that lie beside the repository where the project is developed; tests skip without them."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent.parent / "shared" / "data"

needs_reference_data = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="needs ../shared/data: Qwen-1's vocabulary and golden vectors are not in the repository"
)
