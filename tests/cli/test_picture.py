"""The picture in the README shows what the command line shows today."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

from tests.cli.picture import PICTURE, draw

ROOT = Path(__file__).parents[2]


def texts(svg: str) -> list[str]:
    """Return what is written in a picture. How it is drawn differs from one rich to the next."""
    found = [unescape(text).strip() for text in re.findall(r">([^<]+)</text>", svg)]
    return [text for text in found if text]


def test_it_is_up_to_date() -> None:
    drawn = texts(draw())
    assert "[en]\xa0Good\xa0morning,\xa0everyone." in drawn
    kept = texts(PICTURE.read_text(encoding="utf-8"))
    assert kept == drawn, "draw it anew: python -m tests.cli.picture"


def test_the_readme_shows_it() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f'<img src="{PICTURE.relative_to(ROOT).as_posix()}"' in readme
