"""What a terminal sees of a load."""

from types import SimpleNamespace

from model_loader.progress import LoadProgress
from ui.chat.load_printer import LoadPrinter


def test_each_stage_and_tenth_is_one_line_and_the_end_gives_the_reason() -> None:
    lines: list[str] = []
    load = SimpleNamespace(progress=LoadProgress("libraries"), chat_model=None, error=None, notice=None)
    printer = LoadPrinter(load, lines.append)  # type: ignore[arg-type]
    for fraction in (None, 0.0, 0.04, 0.09, 0.11, 0.5, 1.0):
        load.progress = LoadProgress("libraries") if fraction is None else LoadProgress("weights", fraction)
        assert not printer.poll()
    load.chat_model = SimpleNamespace(
        name="Qwen/Qwen-7B",
        placement=SimpleNamespace(reason="float32 on cpu, because"),
        capacity="8 answers at once",
        context_length=8192,
        window_reason="trained with 2,048",
        checkpoint=SimpleNamespace(source="ModelScope"),
    )
    assert printer.poll()
    assert printer.poll()
    assert lines == [
        "Starting torch and transformers ...",
        "Reading weights: 0 %",
        "Reading weights: 10 %",
        "Reading weights: 50 %",
        "Reading weights: 100 %",
        "Fetched from ModelScope.",
        "Ready: Qwen/Qwen-7B in float32 on cpu, because.",
        "Reads 8,192 tokens (trained with 2,048).",
        "Serves 8 answers at once.",
    ]


def test_a_failed_load_ends_with_its_sentence() -> None:
    lines: list[str] = []
    load = SimpleNamespace(
        progress=LoadProgress("download"), chat_model=None, error="There is no folder 'x'.", notice=None
    )
    assert LoadPrinter(load, lines.append).poll()  # type: ignore[arg-type]
    assert lines == ["No model: There is no folder 'x'."]


def test_another_model_is_told_again_and_a_failure_with_its_reason() -> None:
    lines: list[str] = []
    chat_model = SimpleNamespace(
        name="builtin",
        placement=SimpleNamespace(reason="float32 on cpu, because"),
        capacity="8 answers at once",
        context_length=2048,
        window_reason="",
        checkpoint=SimpleNamespace(source=""),
    )
    load = SimpleNamespace(progress=LoadProgress("libraries"), chat_model=chat_model, error=None, notice=None)
    printer = LoadPrinter(load, lines.append)  # type: ignore[arg-type]
    assert printer.poll()
    load.chat_model = None
    assert not printer.poll()
    load.chat_model, load.notice = chat_model, "There is no folder 'x'."
    assert printer.poll()
    assert lines.count("Ready: builtin in float32 on cpu, because.") == 2
    assert "Back to the model before: There is no folder 'x'." in lines
