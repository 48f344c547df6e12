"""`:conf`: literals only, every setting by its name, all of a change or nothing of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_loader.engine.request import Sampling
from model_loader.errors import InvalidSetting
from ui.chat.conversation import Settings
from ui.terminal.conf import changed_settings, model_settings, read_changes, setting_lines

MODEL = Sampling(max_new_tokens=256, temperature=0.7, top_p=0.8, top_k=20)


def change(text: str, settings: Settings | None = None) -> Settings:
    return changed_settings(settings or Settings(sampling={"seed": 1}), read_changes(text), MODEL)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("temperature=0.5", {"temperature": 0.5}),
        ("temperature=0.5 top_k=5", {"temperature": 0.5, "top_k": 5}),
        ("  top_p = 0.5 ", None),
        ("stop='END OF IT' seed=3", {"stop": "END OF IT", "seed": 3}),
        ("stop=['a b', \"it's\"]\ttop_k=1", {"stop": ["a b", "it's"], "top_k": 1}),
        ("stop=('\\n',)", {"stop": ("\n",)}),
        ("stop='it\\'s = x'", {"stop": "it's = x"}),
        ("seed=None", {"seed": None}),
        ("", {}),
    ],
)
def test_values_are_literals_between_spaces(text: str, changes: dict[str, object] | None) -> None:
    if changes is None:
        with pytest.raises(InvalidSetting, match="no setting; write key=value"):
            read_changes(text)
    else:
        assert read_changes(text) == changes


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("temperature=9", "temperature is 9; give a number from 0.0 to 2.0"),
        ("top_k=1.5", "top_k is 1.5; give a whole number from 0 to 1,000"),
        ("temperature=True", "temperature is True; give a number"),
        ("temperature='hot'", "temperature is 'hot'; give a number"),
        ("temperature=nan", "temperature is 'nan'; give a number from 0.0 to 2.0"),
        ("temperature=1e999", "temperature is inf"),
        ("temperature=None", "temperature is None"),
        ("top_k=" + "9" * 400, "far too many digits"),
        ("top_k=" + "9" * 3_000, "far too many digits"),
        ("temprature=1", "'temprature' is no setting; did you mean temperature"),
        ("do_sample=False", "The settings are max_new_tokens, temperature"),
        ("temperature", "no setting; write key=value"),
        ("=1", "no setting; write key=value"),
        ("seed=1 seed=2", "seed is there twice"),
        ("stop=5", "stop is 5; give a text or a list"),
        ("stop=['']", "none of them empty"),
        ("stop=END", "stop is 'END'; give a text or a list of texts in quotes"),
        ("stop=" + repr(["x"] * 17), "stop takes 16 texts"),
        ("temperature=" + "(" * 3_000, "temperature is"),
        ("temperature=" + "-" * 3_000 + "1", "temperature is"),
        ("x" * 5_000, "4,000 at most"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_changes(text: str, complaint: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        change(text)
    assert complaint in str(caught.value)


def test_nothing_is_ever_evaluated(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for value in (f"open({str(canary)!r},'w')", "__import__('os').getcwd()", "f'{1}'", "[x for x in (1,)]", "1+1"):
        with pytest.raises(InvalidSetting, match="temperature is"):
            read_changes(f"temperature={value}".replace(" ", ""))
    assert not canary.exists()


def test_a_change_takes_effect_and_the_models_own_values_are_not_kept() -> None:
    settings = change("temperature=0.2 top_k=20 stop='END'")
    assert settings.sampling == {"seed": 1, "temperature": 0.2}
    assert settings.stop == ("END",)
    assert change("temperature=0.7 stop=None", settings) == Settings(sampling={"seed": 1})
    assert change("seed=None", settings).sampling == {"temperature": 0.2}
    with pytest.raises(InvalidSetting):
        change("top_k=3 temperature=7", settings)


def test_a_reset_keeps_seed_and_system_prompt() -> None:
    settings = change("temperature=0.2 stop='END'", Settings("Be brief.", {"seed": 7}))
    assert model_settings(settings) == Settings("Be brief.", {"seed": 7})
    assert model_settings(Settings(stop=("x",))) == Settings()


def test_every_setting_is_listed_with_its_range_and_the_models_own() -> None:
    lines = setting_lines(change("temperature=0.2 stop='END'"), MODEL)
    assert len(lines) == 10
    (temperature,) = [line for line in lines if line.startswith("temperature")]
    assert temperature.split()[1:] == ["0.2", "0.0", "to", "2.0;", "the", "model's", "own", "is", "0.7"]
    assert "'END'" in lines[-1]


@given(st.text(max_size=100))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    for candidate in (text, f"temperature={text}", f"stop={text}"):
        try:
            changes = read_changes(candidate)
            changed_settings(Settings(), changes, MODEL)
        except InvalidSetting:
            pass
