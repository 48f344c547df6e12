"""What the evaluation asks, and how it tells which topic a reply is about.

Each case is a conversation that ends with a held-out question, and what a right reply has to be. A reply belongs to
the reference answer that shares most character trigrams with it; a reply that resembles none belongs to no topic.
Nothing here knows a model.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

from model_loader.builtin.corpus import LANGUAGES, Corpus
from model_loader.builtin.dialogues import DEPENDENT_TOPICS, LANGUAGE_REQUESTS, Answer, answer_text
from model_loader.chat_format.messages import Message

Kind = Literal["paraphrase", "refusal", "name", "shorter", "language"]
KINDS: tuple[Kind, ...] = ("paraphrase", "refusal", "name", "shorter", "language")
_LEAST_SIMILARITY = 0.55
"""Below this share of common trigrams a reply counts as about nothing; answers differ from each other by far more."""
_EARLIER_TOPICS = ("port", "privacy", "what_is_qwen", "temperature", "reload", "start_app", "licence", "queue")
"""What the follow-up cases talked about before."""
_EARLIER_QUESTIONS = {
    "en": ("my name is [name]", "how are you?"),
    "zh": ("我叫[name]", "最近怎么样？"),
    "ja": ("私の名前は[name]です", "お元気ですか？"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One question of the evaluation.

    Attributes:
        kind: which row of the table it counts in.
        language: of the person who asks.
        messages: the conversation up to the question.
        expected: topic, language of the reply and whether the short answer is wanted.
        must_contain: a name that the reply has to repeat, or "".
    """

    kind: Kind
    language: str
    messages: tuple[Message, ...]
    expected: Answer
    must_contain: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a case went: the reply, the answer it resembles most (None: none), and whether it was cut off."""

    case: Case
    reply: str
    num_tokens: int
    is_cut_off: bool
    found: Answer | None

    @property
    def is_right(self) -> bool:
        """Whether the reply is about the right thing, in the right language, and repeats the name it must."""
        if self.is_cut_off or self.found is None or self.case.must_contain not in self.reply:
            return False
        expected, found = self.case.expected, self.found
        is_same_length = self.case.kind != "shorter" or found.is_short
        return (expected.topic, expected.language) == (found.topic, found.language) and is_same_length


class TopicFinder:
    """Tells which answer of the corpus a text resembles most."""

    def __init__(self, corpus: Corpus) -> None:
        self._references = [
            reference
            for topic in corpus.topics.values()
            for language, speech in topic.speech.items()
            if speech.say
            for reference in (
                *(Answer(topic.name, variant, language) for variant in range(len(speech.say))),
                Answer(topic.name, 0, language, is_short=True),
            )
        ]
        self._sizes: list[int] = []
        self._places: dict[str, list[tuple[int, int]]] = {}
        for place, reference in enumerate(self._references):
            trigrams = _trigrams(answer_text(corpus, reference))
            self._sizes.append(trigrams.total())
            for trigram, count in trigrams.items():
                self._places.setdefault(trigram, []).append((place, count))

    def find(self, text: str, name: str = "") -> Answer | None:
        """The answer that shares most trigrams with the text (Dice's coefficient), None if none shares enough.

        Args:
            text: a reply.
            name: a person's name that it should repeat. The answers compared with have none, and in Chinese a name is
                half of "You are called [name]", so it is left out of the text too.
        """
        trigrams = _trigrams(text.replace(name, ""))
        shared: Counter[int] = Counter()
        for trigram, count in trigrams.items():
            for place, reference_count in self._places.get(trigram, ()):
                shared[place] += min(count, reference_count)
        size = trigrams.total()
        similarities = {place: 2 * number / (size + self._sizes[place]) for place, number in shared.items()}
        best = max(similarities, key=lambda place: similarities[place], default=0)
        return self._references[best] if similarities.get(best, 0.0) >= _LEAST_SIMILARITY else None


def evaluation_cases(corpus: Corpus) -> list[Case]:
    """All cases: every held-out question once, the dependent ones after an earlier turn."""
    cases = [
        Case(
            "refusal" if topic.name == "refuse" else "paraphrase",
            language,
            (Message("user", question),),
            Answer(topic.name, 0, language),
        )
        for topic, language, question in corpus.held_out()
        if topic.name not in DEPENDENT_TOPICS
    ]
    return [*cases, *_name_cases(corpus), *_follow_up_cases(corpus)]


def _name_cases(corpus: Corpus) -> Iterator[Case]:
    """A held-out name is told, one other thing is said, then the name is asked for."""
    for language in LANGUAGES:
        tell, other = _EARLIER_QUESTIONS[language]
        questions = cycle(corpus.topics["ask_name"].speech[language].held_out)
        greetings = cycle(corpus.topics["tell_name"].speech[language].held_out)
        for place, name in enumerate(corpus.names[language].held_out):
            told = Message("user", (tell if place % 2 else next(greetings)).replace("[name]", name))
            answers = [Answer("tell_name", place, language, name), Answer("how_are_you", place, language)]
            messages = [told, Message("assistant", answer_text(corpus, answers[0]))]
            if place % 3:
                messages += [Message("user", other), Message("assistant", answer_text(corpus, answers[1]))]
            messages.append(Message("user", next(questions)))
            yield Case("name", language, tuple(messages), Answer("ask_name", 0, language, name), name)


def _follow_up_cases(corpus: Corpus) -> Iterator[Case]:
    """After an answer about some topic: shorter, or in another language."""
    for language in LANGUAGES:
        for place, topic in enumerate(_EARLIER_TOPICS):
            speech = corpus.topics[topic].speech[language]
            earlier = (Message("user", speech.held_out[0]), Message("assistant", speech.say[place % len(speech.say)]))
            shorter = corpus.topics["shorter"].speech[language].held_out
            question = Message("user", shorter[place % len(shorter)])
            yield Case("shorter", language, (*earlier, question), Answer(topic, place, language, is_short=True))
            for request, wanted in LANGUAGE_REQUESTS.items():
                if (place + LANGUAGES.index(wanted)) % 4 == 0 and wanted != language:
                    held_out = corpus.topics[request].speech["any"].held_out[LANGUAGES.index(language)]
                    yield Case("language", language, (*earlier, Message("user", held_out)), Answer(topic, 0, wanted))


def _trigrams(text: str) -> Counter[str]:
    padded = f"  {text} "
    return Counter(padded[start : start + 3] for start in range(len(padded) - 2))
