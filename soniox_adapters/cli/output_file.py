"""The file that a transcript is written to."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from types import TracebackType

from typing_extensions import Self

from soniox_proto import SonioxError, SonioxValidationError

__all__ = ["OutputFile"]


class OutputFile:
    """A file that is written as the text comes.

    What it held before is given up only with the first text, or by `begin`, so a stream that fails
    at once costs nobody the transcript of the day before.

    Raises `SonioxValidationError` if it cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = False
        try:
            # Line breaks stay what the format says.
            self._file = path.open("a", encoding="utf-8", errors="replace", newline="")
        except OSError as error:
            raise SonioxValidationError(f"cannot write {path}: {error.strerror}") from error

    def begin(self) -> None:
        """Give up what it held before; raises `SonioxError` if that fails."""
        self.write("")

    def write(self, text: str) -> None:
        """Append text, and have it written at once; raises `SonioxError` if that fails."""
        try:
            if not self._begun and S_ISREG(os.fstat(self._file.fileno()).st_mode):
                self._file.truncate(0)
            self._begun = True
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            raise SonioxError(f"cannot write {self._path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What could not be written has been reported by `write`.
        with suppress(OSError):
            self._file.close()
