"""A task of another module, with a file beside it that is no module."""

import pathlib

from ..environments import words


@words.task
async def clean(word: str) -> str:
    sign = pathlib.Path(__file__).with_name("sign.txt")
    return word.strip() + (sign.read_text().strip() if sign.exists() else "")
