"""What was said so far, as context for the connections that follow."""

from __future__ import annotations

from typing import Any

from soniox_proto.config import (
    MAX_CONTEXT_CHARACTERS,
    RealtimeSTTConfig,
    StructuredContext,
    character_count,
)

__all__ = ["with_said"]


def with_said(config: RealtimeSTTConfig, said: str) -> RealtimeSTTConfig:
    """Return a configuration whose context ends with what was said.

    As much of its end as there is room for: the service takes `MAX_CONTEXT_CHARACTERS` in all.
    """
    context = config.context
    fields: dict[str, Any] = {}
    if isinstance(context, str):
        fields = {"text": context}
    elif context is not None:
        fields = StructuredContext.model_validate(context).model_dump(exclude_none=True)
    given: str = fields.get("text", "")
    before = f"{given}\n" if given else ""
    room = MAX_CONTEXT_CHARACTERS - character_count(fields) - bool(before)
    said = said.strip()
    if len(said) > room:
        # From the beginning of a word, in scripts that have spaces between words.
        end = said[len(said) - room :] if room > 0 else ""
        said = end.partition(" ")[2] if " " in said else end
    if not said:
        return config
    fields["text"] = before + said
    carried = fields["text"] if isinstance(context, str) else StructuredContext(**fields)
    return config.model_copy(update={"context": carried})
