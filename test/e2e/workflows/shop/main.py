"""What is run: three levels of tasks, of three environments."""

import asyncio
import typing

from shop.environments import shop
from shop.steps.sums import doubled
from shop.steps.words import clean


@shop.task
async def main(words: typing.List[str] = [" a ", "bb "], n: int = 3, label: str = "") -> str:  # noqa: B006
    """Cleans words and adds numbers, all at once.

    Args:
        words: to be cleaned
        n: how many sums
        label: in front of the result
    """
    cleaned, sums = await asyncio.gather(
        asyncio.gather(*(clean(w) for w in words)),
        asyncio.gather(*(doubled.aio(i + 1) for i in range(n))),
    )
    return f"{label}{cleaned} {sums}"
