"""The picture of the live captions in the README: `python -m tests.cli.picture` draws it anew.

It is what `soniox-rt transcribe` shows in the middle of a conversation, not a drawing of it.
"""

from __future__ import annotations

from io import BytesIO, StringIO
from pathlib import Path
from typing import Final

from rich.console import Console

from soniox_adapters.cli.captions import Captions
from soniox_adapters.cli.recording import Recording
from soniox_proto import RealtimeEvent, Token, Transcript

__all__ = ["PICTURE", "draw"]

PICTURE: Final = Path(__file__).parent / "captions.svg"

_WIDTH: Final = 76
_SECONDS: Final = 15.0
_PLAYED: Final = 9.1


def _said(text: str, start_ms: int, end_ms: int, *, final: bool = True) -> Token:
    return Token(
        text=text,
        start_ms=start_ms,
        end_ms=end_ms,
        is_final=final,
        language="en",
        translation_status="original",
    )


def _translated(text: str, *, final: bool = True) -> Token:
    return Token(text=text, is_final=final, language="es", translation_status="translation")


def _end() -> Token:
    return Token(text="<end>", is_final=True)


_MESSAGES: Final = (
    (_said("Good morning, everyone.", 200, 1400), _end()),
    (_translated("Buenos días a todos."),),
    (_said("Shall we begin with the weather on the coast?", 1800, 3900), _end()),
    (_translated("¿Empezamos con el tiempo en la costa?"),),
    (_said("Yes. The storm has passed, and the ferries run again.", 4300, 6800), _end()),
    (_translated("Sí. La tormenta ha pasado y los transbordadores vuelven a salir."),),
    (
        _said("Then I will take", 7300, 8200),
        _said(" the one at noon", 8200, 8800, final=False),
        _translated("Entonces tomaré", final=False),
    ),
)


def draw() -> str:
    """Return the picture as SVG."""
    console = Console(
        file=StringIO(),
        record=True,
        width=_WIDTH,
        height=24,
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        legacy_windows=False,
        _environ={},
    )
    recording = Recording(BytesIO(), "conversation.wav", size=1000)
    recording.duration = _SECONDS
    recording.position = round(1000 * _PLAYED / _SECONDS)
    transcript = Transcript()
    captions = Captions(console, transcript, recording, times=True)
    for tokens in _MESSAGES:
        captions.show(transcript.feed(RealtimeEvent(tokens=list(tokens))))
    console.print(captions)
    return console.export_svg(title="soniox-rt transcribe --translate-to es", unique_id="captions")


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
