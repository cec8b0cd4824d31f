"""The help page of a command with many options."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

__all__ = ["GroupedHelpCommand"]


class GroupedHelpCommand(TyperCommand):
    """A command whose help page shows the options in the groups that they are declared in.

    typer does that only in its coloured help pages, which truncate long names.
    """

    # Typed as Any because typer's types are click's or its own, depending on its version.
    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, and the arguments, group by group."""
        groups: dict[str, list[Any]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
                name = getattr(parameter, "rich_help_panel", None) or kind
                groups.setdefault(name, []).append(record)
        # Moved to the end: --help, the last option, would otherwise keep it in the middle.
        groups |= {"Options": groups.pop("Options", [])}
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)
