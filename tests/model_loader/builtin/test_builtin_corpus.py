"""The corpus: whole, parallel in three languages, reproducible, and apart from what it is tested on."""

import re
import subprocess
import sys
from itertools import islice
from random import Random

import pytest

from model_loader.builtin.cases import TopicFinder, evaluation_cases
from model_loader.builtin.corpus import LANGUAGES, Corpus, named_flags, read_corpus
from model_loader.builtin.dialogues import Answer, DialogueWriter, answer_text
from model_loader.builtin.phrasing import Phrasing, normalised


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return read_corpus()


def test_every_topic_says_the_same_in_three_languages(corpus: Corpus) -> None:
    for topic in corpus.topics.values():
        speeches = [speech for speech in topic.speech.values() if speech.say]
        if speeches:
            assert set(topic.speech) == set(LANGUAGES), topic.name
            assert len({len(speech.say) for speech in speeches}) == 1, topic.name
            assert all(speech.short for speech in speeches), topic.name


def test_every_answer_is_told_apart_from_the_answers_of_other_topics(corpus: Corpus) -> None:
    finder = TopicFinder(corpus)
    for topic in corpus.topics.values():
        for language, speech in topic.speech.items():
            for variant in range(len(speech.say)):
                found = finder.find(answer_text(corpus, Answer(topic.name, variant, language)))
                assert found is not None
                assert (found.topic, found.language) == (topic.name, language)


def test_a_reply_that_repeats_a_long_name_is_still_told_apart(corpus: Corpus) -> None:
    finder = TopicFinder(corpus)
    for language in LANGUAGES:
        for name in corpus.names[language].held_out:
            for variant in range(2):
                found = finder.find(answer_text(corpus, Answer("ask_name", variant, language, name)), name)
                assert found is not None
                assert (found.topic, found.language) == ("ask_name", language)


def test_a_reply_about_nothing_belongs_to_no_topic(corpus: Corpus) -> None:
    assert TopicFinder(corpus).find("zzz qqq zzz qqq xxx") is None


def test_there_are_enough_held_out_questions(corpus: Corpus) -> None:
    kinds = [case.kind for case in evaluation_cases(corpus)]
    assert kinds.count("paraphrase") >= 150
    assert kinds.count("refusal") == 100


def test_no_held_out_question_is_ever_trained_on(corpus: Corpus) -> None:
    held_out = {normalised(question) for _, _, question in corpus.held_out()}
    dialogues = islice(DialogueWriter(corpus, seed=5), 20_000)
    asked = {normalised(message.content) for dialogue in dialogues for message in dialogue if message.role == "user"}
    assert len(asked) > 15_000
    assert not asked & held_out


def test_no_held_out_name_is_ever_trained_on(corpus: Corpus) -> None:
    phrasing = Phrasing(corpus, Random(3))
    for language in LANGUAGES:
        held_out = set(corpus.names[language].held_out)
        assert not held_out & set(corpus.names[language].train)
        assert not held_out & {phrasing.name(language) for _ in range(5_000)}


def test_the_same_seed_writes_the_same_dialogues(corpus: Corpus) -> None:
    first = list(islice(DialogueWriter(corpus, seed=1), 200))
    assert first == list(islice(DialogueWriter(corpus, seed=1), 200))
    assert first != list(islice(DialogueWriter(corpus, seed=2), 200))


def test_a_dialogue_alternates_and_ends_with_the_guide(corpus: Corpus) -> None:
    for dialogue in islice(DialogueWriter(corpus, seed=8), 300):
        roles = [message.role for message in dialogue if message.role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_a_wording_has_no_template_marks_left(corpus: Corpus) -> None:
    phrasing = Phrasing(corpus, Random(0))
    for topic in corpus.topics.values():
        for language, speech in topic.speech.items():
            for template in speech.ask:
                text = phrasing.filled(template, "en" if language == "any" else language, "Ada")
                assert not re.search(r"[{}<>\[\]]", text), template


def test_every_flag_that_the_corpus_names_exists(corpus: Corpus) -> None:
    help_text = subprocess.run(
        [sys.executable, "app.py", "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", help_text))
    flags = named_flags(corpus)
    assert {"-c", "--checkpoint-path", "--cpu-only", "--linger"} <= flags
    assert flags <= known
