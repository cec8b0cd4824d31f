"""Messages of the service as JSON, and the configuration that most tests use."""

from __future__ import annotations

import json

from soniox_proto import RealtimeSTTConfig

API_KEY = "sk-very-secret-0123456789"
CONFIG = RealtimeSTTConfig(model="stt-rt-v5")
START_MESSAGE = '{"model":"stt-rt-v5","audio_format":"auto"}'
KEEPALIVE = '{"type":"keepalive"}'
FINALIZE = '{"type":"finalize"}'


def token(text: str, **fields: object) -> dict[str, object]:
    """Return a token, final unless `is_final=False` is given."""
    return {"text": text, "is_final": True, **fields}


def result(*tokens: dict[str, object] | str, **fields: object) -> str:
    """Return a result; a `str` stands for a final token of that text."""
    items = [token(item) if isinstance(item, str) else item for item in tokens]
    return json.dumps({"tokens": items, **fields})


def error(code: int | None, error_type: str | None, message: str, **fields: object) -> str:
    """Return an error message."""
    optional = {"error_code": code, "error_type": error_type}
    present = {name: value for name, value in optional.items() if value is not None}
    return json.dumps({"tokens": [], **present, "error_message": message, **fields})


FINISHED = result(finished=True)
UNAUTHENTICATED = error(401, "unauthenticated", "Incorrect API key provided.")
