"""Writes the training dialogues: an endless, seeded stream of conversations put together from the corpus.

One dialogue is a few turns about any topics, with unrelated questions between them and with turns that depend on
earlier ones: a name told and asked for, "shorter please", "in Japanese please". No question whose letters equal a
held-out one is ever written. What a dialogue looks like as token ids is not known here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from model_loader.builtin.corpus import LANGUAGES, Corpus, Speech, Topic
from model_loader.builtin.phrasing import Phrasing, normalised
from model_loader.chat_format.messages import Message

LANGUAGE_REQUESTS = {"in_english": "en", "in_chinese": "zh", "in_japanese": "ja"}
DEPENDENT_TOPICS = frozenset(
    {*LANGUAGE_REQUESTS, "tell_name", "ask_name", "name_unknown", "shorter", "more", "nothing_yet"}
)
_REFUSALS = frozenset({"refuse", "refuse_other"})
_NUM_TURNS = tuple(range(1, 15))
_NUM_TURNS_WEIGHTS = (66, 21, 9, 3, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)
_MORE_TURNS_AFTER_NAME = (1, 1, 2, 3)
"""How many turns follow at least once a name was told: only they show whether it is remembered."""
_LANGUAGE_WEIGHTS = (4, 3, 3)
"""Of `LANGUAGES`: in English the same few words ask for different things more often."""
_SAID_TWICE_SHARE = 0.06
"""How often somebody asks the same in two ways at once."""
_KEYWORDS_SHARE = 0.3
"""How often a question is one of the topic's keywords in a frame that all topics share."""
_NUM_PLAIN = 12
PLAIN_SHARE, LAST_PLAIN_SHARE = 0.25, 0.5
"""How often a question is one of the topic's plainest lines, which stand first in the files: those are asked most, and
among a hundred others "Hello" alone would be drawn too seldom to be learned. Unrelated questions have no plainest ones:
what they have in common is only seen in many. The second is meant for the last steps of a training."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the guide said last: enough to say it again shorter or in another language."""

    topic: str
    variant: int
    language: str
    name: str = ""
    is_short: bool = False


def answer_text(corpus: Corpus, answer: Answer) -> str:
    """The words of an answer."""
    speech = corpus.topics[answer.topic].speech[answer.language]
    text = speech.short if answer.is_short else speech.say[answer.variant % len(speech.say)]
    return text.replace("[name]", answer.name)


class DialogueWriter:
    """Writes dialogues, each different, the same ones for the same seed.

    Args:
        corpus: what there is to talk about.
        seed: of every choice.

    Attributes:
        has_name: whether a name was told in the dialogue written last; the answers then repeat it.
    """

    def __init__(self, corpus: Corpus, seed: int, plain_share: float = PLAIN_SHARE) -> None:
        self.has_name = False
        self._plain_share = plain_share
        self._corpus = corpus
        self._random = Random(seed)
        self._phrasing = Phrasing(corpus, self._random)
        self._forbidden = {normalised(question) for _, _, question in corpus.held_out()}
        self._topics = [topic for topic in corpus.topics.values() if topic.name not in DEPENDENT_TOPICS | _REFUSALS]

    def __iter__(self) -> Iterator[tuple[Message, ...]]:
        while True:
            yield self.write()

    def write(self) -> tuple[Message, ...]:
        """The next dialogue: perhaps a system message, then user and assistant in turn, the assistant last."""
        messages: list[Message] = []
        if self._random.random() < 0.1:
            template = self._random.choice(self._corpus.system_prompts)
            messages.append(Message("system", self._phrasing.filled(template, "en", self._phrasing.name("en"))))
        language = self._random.choices(LANGUAGES, _LANGUAGE_WEIGHTS)[0]
        answer: Answer | None = None
        name = ""
        num_left = self._random.choices(_NUM_TURNS, _NUM_TURNS_WEIGHTS)[0]
        while num_left:
            if self._random.random() < 0.08:
                language = self._random.choice(LANGUAGES)
            question, answer, name = self._turn(language, answer, name)
            messages += (Message("user", question), Message("assistant", answer_text(self._corpus, answer)))
            num_left -= 1
            if answer.topic == "tell_name":
                num_left = max(num_left, self._random.choice(_MORE_TURNS_AFTER_NAME))
        self.has_name = bool(name)
        return tuple(messages)

    def _turn(self, language: str, last: Answer | None, name: str) -> tuple[str, Answer, str]:
        """A question, its answer, and the name of the person who asks as far as it is known then."""
        draw = self._random.random()
        if draw < (0.10 if last is None else 0.05):
            name = self._phrasing.name(language)
            return self._question("tell_name", language, name), self._answer("tell_name", language, name), name
        if draw < (0.45 if name else 0.11 if last is None else 0.07):
            topic = "ask_name" if name else "name_unknown"
            return self._question("ask_name", language), self._answer(topic, language, name), name
        if draw < (0.68 if name else 0.5 if last else 0.13):
            question, answer = self._follow_up(language, last)
            return question, answer, name
        if draw < (0.78 if name else 0.65 if last else 0.41):
            return self._question("refuse", language), self._answer("refuse", language), name
        if draw < (0.785 if name else 0.655 if last else 0.42):
            return self._question("refuse_other", "en"), self._answer("refuse", "en"), name
        topic = self._random.choice(self._topics).name
        return self._question(topic, language), self._answer(topic, language), name

    def _follow_up(self, language: str, last: Answer | None) -> tuple[str, Answer]:
        draw = self._random.random()
        if draw < 0.45:
            question = self._question("shorter", language)
            if last is None:
                return question, self._answer("nothing_yet", language)
            return question, Answer(last.topic, last.variant, last.language, last.name, is_short=True)
        if draw < 0.9:
            request = self._random.choice(sorted(LANGUAGE_REQUESTS))
            spoken = language if self._random.random() < 0.7 else self._random.choice(LANGUAGES)
            question = self._question(request, spoken)
            wanted = LANGUAGE_REQUESTS[request]
            if last is None:
                return question, self._answer("languages", wanted)
            return question, Answer(last.topic, last.variant, wanted, last.name, last.is_short)
        topic = "nothing_yet" if last is None else "more"
        return self._question("more", language), self._answer(topic, language)

    def _answer(self, topic: str, language: str, name: str = "") -> Answer:
        variants = len(self._corpus.topics[topic].speech[language].say)
        return Answer(topic, self._random.randrange(variants), language, name)

    def _question(self, topic_name: str, language: str, name: str = "") -> str:
        topic: Topic = self._corpus.topics[topic_name]
        if "any" in topic.speech:
            templates = [each for each in topic.speech["any"].ask if _script(each) == language]
        else:
            templates = list(topic.speech[language].ask)
        plain = templates if topic_name == "refuse" else templates[:_NUM_PLAIN]
        speech = topic.speech.get(language)
        while True:
            question = self._phrasing.question(self._template(templates, plain, speech, language), language, name)
            if not name and self._random.random() < _SAID_TWICE_SHARE:
                more = self._template(templates, plain, speech, language)
                question += " " + self._phrasing.question(more, language)
            if normalised(question) not in self._forbidden and normalised(question):
                return question

    def _template(self, templates: list[str], plain: list[str], speech: Speech | None, language: str) -> str:
        """A line of the topic's questions, or now and then one of its keywords in a frame."""
        if speech is None or not speech.nouns or self._random.random() > _KEYWORDS_SHARE:
            return self._random.choice(plain if self._random.random() < self._plain_share else templates)
        if speech.doings and self._random.random() < 0.5:
            return self._phrasing.framed("doing", self._random.choice(speech.doings), language)
        return self._phrasing.framed("about", self._random.choice(speech.nouns), language)


def _script(text: str) -> str:
    """The language that a template looks like: kana is Japanese, other Han is Chinese, the rest is English."""
    if any("\u3040" <= character <= "\u30ff" for character in text):
        return "ja"
    return "zh" if any("\u4e00" <= character <= "\u9fff" for character in text) else "en"
