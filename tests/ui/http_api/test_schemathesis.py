"""Hundreds of requests that schemathesis makes of our OpenAPI document, good and bad; `make clients` makes more.

Nothing fails inside, no status and no form of an answer is undocumented, nothing bad is accepted, no key is forgotten.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripted_model import Script
from tests.ui.http_api.served_api import ScriptedApi, on_a_port
from ui.http_api.options import ApiOptions

KEY = "sk-schemathesis"
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "negative_data_rejection", "unsupported_method", "ignored_auth",
)  # fmt: skip


@pytest.mark.timeout(600)
def test_made_requests_find_nothing(tmp_path: Path) -> None:
    api = ScriptedApi(Script(answer="One", tokens_per_s=100_000), ApiOptions(keys=(KEY,)))
    with on_a_port(api) as url:
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{url}/v1/openapi.json", f"--checks={','.join(CHECKS)}",
            "--phases=fuzzing", "--max-examples=25", "--seed=1", "--no-color",
            f"--header=Authorization: Bearer {KEY}",
        ]  # fmt: skip
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(api.model.prompts) > 10
