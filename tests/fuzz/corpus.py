"""The seeds of the fuzz targets, made from the golden traces and from typical messages.

`python -m tests.fuzz.corpus` writes them anew. Files whose names begin with `found-` are inputs
that once broke a rule; they stay as they are.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

from tests.fuzz.program import Do, Operation, Program
from tests.support.core.frames import Opcode
from tests.support.core.messages import (
    FINALIZE,
    FINISHED,
    KEEPALIVE,
    START_MESSAGE,
    UNAUTHENTICATED,
    error,
    result,
    token,
)
from tests.support.core.trace import Trace, encode_line

__all__ = ["DIRECTORY", "connection_seeds", "files", "message_seeds"]

DIRECTORY: Final = Path(__file__).parent / "corpus"

_CALLS: Final = {
    "connect": Do.CONNECT,
    "send_audio": Do.SEND,
    "finalize": Do.FINALIZE,
    "keep_alive": Do.KEEP_ALIVE,
    "finish": Do.FINISH,
    "pause": Do.PAUSE,
    "resume": Do.RESUME,
    "close": Do.CLOSE,
    "abort": Do.ABORT,
}

_ACCEPTED: Final = [Operation(Do.CONNECT), Operation(Do.HANDSHAKE)]
_STARTED: Final = [Operation(Do.HANDSHAKE), Operation(Do.KEEP_ALIVE), Operation(Do.MESSAGE)]


def files(target: str) -> list[Path]:
    """Return the corpus of `connection` or `messages`."""
    return sorted((DIRECTORY / target).iterdir())


def connection_seeds() -> dict[str, bytes]:
    """Return programs by name: the golden traces, and what they do not have."""
    programs = {f"trace-{name}": _from_trace(Trace.read(name)) for name in Trace.names()}
    programs["deflated"] = Program(
        0x02, [Operation(Do.CONNECT), Operation(Do.HANDSHAKE, 1), _frame(0xC1, b"\xab\x56*I-.")]
    )
    programs["subprotocol"] = Program(
        0x08, [Operation(Do.CONNECT), Operation(Do.HANDSHAKE, 2), _message(0)]
    )
    for number, name in enumerate(("wrong-token", "refused", "chunked", "endless", "early"), 3):
        steps = [Operation(Do.CONNECT), Operation(Do.HANDSHAKE, number)]
        programs[f"answer-{name}"] = Program(0, [*steps, Operation(Do.END_OF_STREAM)])
    programs["finalize-late"] = Program(
        0x10, [*_ACCEPTED, Operation(Do.FINALIZE, 4), Operation(Do.SKIP), Operation(Do.SKIP)]
    )
    programs["pings"] = Program(
        0x40,
        [
            *_ACCEPTED,
            Operation(Do.SKIP),
            _frame(0x8A, b"\0\0\0\1"),
            Operation(Do.PAUSE_READING),
            Operation(Do.SKIP),
            Operation(Do.RESUME_READING),
            Operation(Do.GO_BACK, 99),
            Operation(Do.WAIT, 255),
        ],
    )
    programs["transport-failed"] = Program(0, [*_ACCEPTED, Operation(Do.FAIL, 1)])
    programs["server-session"] = Program(
        0x01,
        [
            *_STARTED,
            _frame(0x02, b"spo"),
            _frame(0x89, b"within"),
            _frame(0x80, b"ken"),
            _message(2),
            Operation(Do.SEND, payload=b"word"),
            _message(3),
            Operation(Do.FINISH),
            _frame(0x88, b"\x03\xe8"),
        ],
    )
    for number in range(1, 8):
        programs[f"server-request-{number}"] = Program(
            0x01, [Operation(Do.HANDSHAKE, number), Operation(Do.KEEP_ALIVE), _message(5)]
        )
    programs["server-rejects"] = Program(0x01, [_STARTED[0], Operation(Do.FINALIZE, 29)])
    programs["server-times-out"] = Program(0x01, [*_STARTED, Operation(Do.SKIP), _message(1)])
    programs["server-refuses"] = Program(
        0x01, [*_STARTED, _message(6), Operation(Do.PAUSE, payload=b"no"), Operation(Do.SKIP)]
    )
    return {name: program.write() for name, program in programs.items()}


def message_seeds() -> dict[str, bytes]:
    """Return messages by name."""
    words = result(
        token("Hel", start_ms=0, end_ms=90, confidence=0.97, speaker="1", language="en"),
        token("lo wörld 🎧", is_final=False, start_ms=90),
        final_audio_proc_ms=90,
        total_audio_proc_ms=240,
    )
    translated = result(
        token("Guten", translation_status="translation", language="de", source_language="en"),
        token("<end>", end_ms=500),
        "<fin>",
    )
    unknown = '{"tokens":[{"text":"a","new":[1,2.5e3,null]}],"newer":{"deep":[{"x":[true]}]}}'
    raw = '{"model":"stt-rt-v5","audio_format":"pcm_s16le","sample_rate":16000,"num_channels":1}'
    everything = (
        '{"model":"stt-rt-v5","language_hints":["en","de"],"context":{"general":{"domain":"x"},'
        '"text":"t","terms":["a"],"translation_terms":[{"source":"a","target":"b"}]},'
        '"enable_endpoint_detection":true,"max_endpoint_delay_ms":700,"endpoint_sensitivity":-0.5,'
        '"translation":{"type":"two_way","language_a":"en","language_b":"de"}}'
    )
    service = {
        "words": [words, translated, words, FINISHED],
        "unknown-fields": [unknown, "+" + unknown],
        "unauthenticated": [UNAUTHENTICATED],
        "restart": [error(503, "service_unavailable", "again", request_id="r", more_info="u")],
        "type-only": [error(None, "internal_error", "?")],
        "numbers": ['{"tokens":[{"text":"","confidence":1e400}],"x":[NaN,-Infinity,1e-9,10]}'],
        "duplicates": ['{"finished":true,"finished":false,"x":1,"x":2}'],
        "escaped-markers": [
            r'{"tokens":[{"text":"\u003cend\u003e","is_final":1},{"text":"<f\u0069n>","is_final":"on"}]}'
        ],
        "surrogates": [r'{"x":"\ud83d\ude00","tokens":[{"text":"\ud800"}]}'],
        "not-an-object": ["[]"],
        "wrong-types": ['{"tokens":[{"text":1,"is_final":"no"}],"error_code":"x"}'],
        "nothing": [""],
    }
    client = {
        "session": [START_MESSAGE, KEEPALIVE, "+audio", FINALIZE, ""],
        "raw-audio": [KEEPALIVE, raw, '{"type":"finalize","trailing_silence_ms":200}'],
        "all-options": [everything],
        "key-inside": ['{"api_key":"k","model":"stt-rt-v5"}'],
        "wrong-option": ['{"model":1,"modle":2,"sample_rate":0}'],
        "one-way": ['{"model":"m","translation":{"type":"one_way","target_language":"en"}}'],
        "no-start": ["+audio"],
    }
    seeds = {f"service-{name}": b"0" + _lines(lines) for name, lines in service.items()}
    seeds |= {f"client-{name}": b"1" + _lines(lines) for name, lines in client.items()}
    return seeds


def _from_trace(trace: Trace) -> Program:
    steps: list[Operation] = []
    now = 0.0
    for step in trace.steps:
        if step.action == "@":
            later = float(step.lines[0])
            quarters, now = round((later - now) * 4), later
            while quarters > 255:
                steps.append(Operation(Do.WAIT, 255))
                quarters -= 255
            steps.append(Operation(Do.WAIT, quarters))
        elif step.action == "$":
            steps.append(_from_call(step.lines[0]))
        elif step.lines == ["eof"]:
            steps.append(Operation(Do.END_OF_STREAM))
        else:
            steps += _from_segment(step.lines)
    return Program(0, steps)


def _from_call(line: str) -> Operation:
    call = ast.parse(line, mode="eval").body
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Name)
    do = _CALLS[call.func.id]
    arguments = [ast.literal_eval(argument) for argument in call.args]
    options = {item.arg: ast.literal_eval(item.value) for item in call.keywords}
    if do is Do.PAUSE:
        return Operation(do, payload=b"x" if options.get("finalize", True) else b"")
    if do is Do.FINALIZE:
        silence = options.get("trailing_silence_ms")
        return Operation(do, 0 if silence is None else min(255, silence + 1))
    return Operation(do, payload=arguments[0] if arguments else b"")


def _from_segment(lines: list[str]) -> list[Operation]:
    accepting = lines[0].startswith("http HTTP/1.1 101")
    # The traces have another nonce, and so another answer to it.
    raw = [line for line in lines if not (accepting and line.startswith("http"))]
    steps = [Operation(Do.HANDSHAKE)] if accepting else []
    return steps + [Operation(Do.RAW, payload=encode_line(line)) for line in raw]


def _frame(first: int, payload: bytes) -> Operation:
    assert first & 0x0F in set(Opcode)
    return Operation(Do.FRAME, first, payload)


def _message(number: int) -> Operation:
    return Operation(Do.MESSAGE, number)


def _lines(lines: list[str]) -> bytes:
    return "\n".join(lines).encode()


if __name__ == "__main__":
    for target, seeds in (("connection", connection_seeds()), ("messages", message_seeds())):
        (DIRECTORY / target).mkdir(parents=True, exist_ok=True)
        for name, data in seeds.items():
            (DIRECTORY / target / name).write_bytes(data)
