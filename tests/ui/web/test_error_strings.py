"""Errors of the model in the page's languages."""

import inspect

import pytest

from model_loader import errors
from ui.web.error_strings import error_text
from ui.web.strings import LANGUAGES, Language

CLASSES = [
    name
    for name, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, errors.ModelLoaderError) and each is not errors.ModelLoaderError
]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", CLASSES)
def test_every_class_of_error_has_its_remedy_in_every_language(name: str, language: Language) -> None:
    said = error_text(language, name, "64 GB are needed.")
    assert said.endswith("64 GB are needed.")
    assert (said == "64 GB are needed.") == (language == "en")


def test_an_error_without_a_class_is_shown_as_it_is() -> None:
    assert error_text("zh", "", "It is late.") == error_text("ja", "KeyError", "It is late.") == "It is late."
