"""The README's diagram of a session's states, drawn from the table that the core goes by.

`python -m tests.support.state_diagram` draws it into the README.
"""

from __future__ import annotations

from soniox_proto import TRANSITIONS, SessionInput, SessionState
from tests.support import generated_part

__all__ = ["diagram", "written_diagram"]

NAME = "states"


def diagram() -> str:
    """Return the diagram as Mermaid, with one arrow from each state to each that can follow it."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {SessionState.IDLE.name}"]
    for state, row in TRANSITIONS.items():
        for following in SessionState:
            inputs = [known for known in SessionInput if row.get(known) is following]
            if inputs:
                label = ", ".join(known.name.lower() for known in inputs)
                lines.append(f"    {state.name} --> {following.name}: {label}")
    lines += [f"    {SessionState.CLOSED.name} --> [*]", "```"]
    return "\n".join(lines) + "\n"


def written_diagram() -> str:
    """Return the diagram as the README has it."""
    return generated_part.written(NAME)


if __name__ == "__main__":
    generated_part.write(NAME, diagram())
