"""What Prometheus is told: requests, tokens, times to the first and to each next token, and how busy the engine is.

Counters and histograms are of the API's requests alone; the gauges are the engine's, so the page's answers are in them.
"""

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from model_loader.background_load import BackgroundLoad
from model_loader.events import Usage

MEDIA_TYPE = CONTENT_TYPE_LATEST
_WAIT_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Metrics:
    """The figures of one API."""

    def __init__(self, load: BackgroundLoad) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "qwen_chat_requests", "Requests; status 499 is a client that left.", ["route", "status"], registry=registry
        )
        self._tokens = Counter(
            "qwen_chat_tokens", "Tokens; cached ones are among those of prompts.", ["kind"], registry=registry
        )
        self._queue = Histogram(
            "qwen_chat_queue_seconds", "From arrival to the turn.", registry=registry, buckets=_WAIT_S
        )
        self._first_token = Histogram(
            "qwen_chat_first_token_seconds", "From arrival to the first token.", registry=registry, buckets=_WAIT_S
        )
        self._next_token = Histogram(
            "qwen_chat_next_token_seconds", "From token to token, on average.", registry=registry, buckets=_TOKEN_S
        )
        registry.register(_EngineGauges(load))

    def note_request(self, route: str, status: int) -> None:
        """A request has ended."""
        self._requests.labels(route, str(status)).inc()

    def note_usage(self, usage: Usage) -> None:
        """An answer has ended."""
        self._tokens.labels("prompt").inc(usage.prompt_tokens)
        self._tokens.labels("cached").inc(usage.cached_prompt_tokens)
        self._tokens.labels("completion").inc(usage.completion_tokens)
        self._queue.observe(usage.queue_s)
        self._first_token.observe(usage.first_token_s)
        if usage.tokens_per_s is not None:
            self._next_token.observe(1 / usage.tokens_per_s)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)


class _EngineGauges:
    """How busy the engine is when somebody looks; nothing while there is no model."""

    def __init__(self, load: BackgroundLoad) -> None:
        self._load = load

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """As `prometheus_client` asks for it."""
        chat_model = self._load.chat_model
        if chat_model is None:
            return
        activity = chat_model.activity
        for name, meaning, value in (
            ("running", "Answers that are being made.", activity.num_running),
            ("waiting", "Requests that wait for their turn.", activity.num_waiting),
            ("slots", "Answers that can be made at once.", activity.max_running),
            ("kv_tokens_used", "Tokens of keys and values that running answers may come to.", activity.kv_tokens_used),
            ("kv_tokens", "Tokens of keys and values that there is room for.", activity.kv_tokens),
        ):
            yield GaugeMetricFamily(f"qwen_chat_{name}", meaning, value)
