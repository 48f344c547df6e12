"""The import rule: who may import whom, and where each library is at home."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [ROOT / "app.py", *sorted((ROOT / "model_loader").rglob("*.py")), *sorted((ROOT / "ui").rglob("*.py"))]

LIBRARY_HOMES = {
    "torch": ("model_loader.loading", "model_loader.engine", "model_loader.builtin"),
    "transformers": ("model_loader.loading", "model_loader.engine", "model_loader.builtin"),
    "huggingface_hub": ("model_loader.checkpoint",),
    "modelscope_hub": ("model_loader.checkpoint",),
    "llguidance": ("model_loader.grammar",),
    "httpx": ("model_loader.remote",),
    "gradio": ("ui.web",),
    "mdtex2html": ("ui.web",),
    "nh3": ("ui.web",),
    "fastapi": ("ui.http_api",),
    "segno": ("ui.web",),
    "starlette": ("ui.http_api", "ui.web"),
    "uvicorn": ("ui.http_api", "ui.request_head"),
    "pydantic": ("ui.http_api",),
    "openai": ("ui.http_api",),
    "prometheus_client": ("ui.http_api",),
    "pypdf": ("ui.chat.pdf_worker",),
    "rich": ("ui.terminal",),
    "prompt_toolkit": ("ui.terminal",),
    "markdown_it": ("ui.terminal",),
}
FOUNDATION = (
    "model_loader.errors",
    "model_loader.events",
    "model_loader.progress",
    "model_loader.byte_level",
    "model_loader.process_memory",
)
MODEL_LOADER_RULES = {
    "model_loader.errors": (),
    "model_loader.events": (),
    "model_loader.progress": (),
    "model_loader.byte_level": (),
    "model_loader.process_memory": (),
    "model_loader.checkpoint": (*FOUNDATION, "model_loader.builtin"),
    "model_loader.loading": (*FOUNDATION, "model_loader.checkpoint"),
    "model_loader.engine": (*FOUNDATION, "model_loader.checkpoint", "model_loader.loading"),
    "model_loader.chat_format": FOUNDATION,
}
"""What each part may import besides itself; parts that are not named here compose the others."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_module_imports_only_what_its_place_allows(path: Path) -> None:
    module = module_name(path)
    for name in imports(path):
        library = name.split(".")[0]
        homes = LIBRARY_HOMES.get(library)
        assert homes is None or any(is_in(module, home) for home in homes), f"{module} imports {library}"
        if library == "model_loader" and is_in(module, "model_loader"):
            for part, allowed in MODEL_LOADER_RULES.items():
                if is_in(module, part):
                    assert any(is_in(name, each) for each in (part, *allowed)), f"{module} imports {name}"
        if library == "ui":
            assert not is_in(module, "model_loader"), f"{module} imports upward"
            for front_end in ("ui.web", "ui.terminal", "ui.http_api"):
                if is_in(name, front_end):
                    assert is_in(module, front_end) or module in ("app", "ui.command_line"), f"{module} imports {name}"
        assert library != "app", f"{module} imports app"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_the_top_level_holds_what_is_agreed() -> None:
    agreed = {
        "app.py", "ui", "model_loader", "static", "tests", "requirements_web_demo.txt", "README.md", "Makefile",
        "LICENSE", "CHANGELOG.md", "SECURITY.md", "pyproject.toml", "constraints.txt", "constraints.lock",
        "__pycache__",
    }  # fmt: skip
    assert {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} <= agreed
