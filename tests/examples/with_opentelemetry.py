"""The numbers of sessions as metrics of OpenTelemetry: counters, the lag, histograms of latencies.

Run it with a URL, a key and raw audio (16 kHz, 16 bit, mono); it prints what it would export.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

from soniox_adapters import Measurement, RealtimeSTTConfig, RealtimeSTTSession

COUNTERS = {
    "sent_audio_bytes": "By",
    "dropped_while_paused_bytes": "By",
    "sent_keepalives": "{message}",
    "sent_pings": "{ping}",
    "received_messages": "{message}",
    "reconnects": "{connection}",
    "open_time": "s",
}
LATENCIES = ("finalize_latency", "endpoint_latency", "ping_latency", "time_to_first_token")
CONFIG = RealtimeSTTConfig(
    model="stt-rt-v5",
    audio_format="pcm_s16le",
    sample_rate=16_000,
    num_channels=1,
    enable_endpoint_detection=True,
)


class Telemetry:
    """All sessions of a program. Give each `on_measurement=telemetry.record`, then `watch` it."""

    def __init__(self, meter: Meter) -> None:
        # The sessions that go on, and what ended ones have counted. Replaced together, because
        # OpenTelemetry reads them in a thread of its own, and no counter may go back.
        self.counted: tuple[frozenset[RealtimeSTTSession], Counter[str]] = (frozenset(), Counter())
        self.lock = Lock()
        self.histograms = {
            name: meter.create_histogram(f"soniox.{name}", unit="s") for name in LATENCIES
        }
        for name, unit in COUNTERS.items():
            meter.create_observable_counter(
                f"soniox.{name}", callbacks=[partial(self.count, name)], unit=unit
            )
        meter.create_observable_gauge("soniox.lag", callbacks=[self.lag], unit="ms")

    def record(self, measurement: Measurement) -> None:
        self.histograms[measurement.name].record(measurement.seconds)

    @contextmanager
    def watch(self, session: RealtimeSTTSession) -> Iterator[None]:
        """Count a session; what it has counted stays when it has ended."""
        with self.lock:
            sessions, ended = self.counted
            self.counted = (sessions | {session}, ended)
        try:
            yield
        finally:
            numbers = session.stats.as_dict()
            with self.lock:
                sessions, ended = self.counted
                ended = ended.copy()
                ended.update({name: numbers[name] or 0 for name in COUNTERS})
                self.counted = (sessions - {session}, ended)

    def count(self, name: str, options: CallbackOptions) -> Iterable[Observation]:
        sessions, ended = self.counted
        running = sum(session.stats.as_dict()[name] or 0 for session in sessions)
        return [Observation(ended[name] + running)]

    def lag(self, options: CallbackOptions) -> Iterable[Observation]:
        lags = [session.stats.lag_ms for session in self.counted[0]]
        return [Observation(lag) for lag in [max(filter(None, lags), default=0.0)]]


def transcribe(url: str, api_key: str, audio: bytes, telemetry: Telemetry) -> str:
    session = RealtimeSTTSession(url, CONFIG, api_key, proxy=None, on_measurement=telemetry.record)
    with session, telemetry.watch(session):
        session.send_bytes(audio)
        session.finalize_and_wait()
        session.finish()
        return " ".join(utterance.text for utterance in session.utterances())


if __name__ == "__main__":
    url, api_key, path = sys.argv[1:]
    provider = MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())])
    print(
        transcribe(url, api_key, Path(path).read_bytes(), Telemetry(provider.get_meter("soniox")))
    )
    provider.shutdown()
