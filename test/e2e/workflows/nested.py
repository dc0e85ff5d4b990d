"""Tasks that call tasks: one after the other, all at once, and by map."""

import asyncio

import flyte

env = flyte.TaskEnvironment(name="nested", resources=flyte.Resources(cpu="100m", memory="200Mi"))


@env.task
async def square(x: int) -> int:
    return x * x


@env.task
async def add(x: int, y: int) -> int:
    return await square(x) + await square(y)


@env.task
async def chain(x: int = 3, y: int = 4) -> int:
    return await add(x, y)


@env.task
async def fanout(n: int = 100) -> int:
    return sum(await asyncio.gather(*(square(i) for i in range(n))))


@env.task
def mapped(n: int = 100) -> int:
    return sum(flyte.map(square, range(n)))


@env.task
async def grouped(n: int = 3) -> int:
    with flyte.group("squares"):
        squares = await asyncio.gather(*(square(i) for i in range(n)))
    with flyte.group("sums"):
        return await add(squares[1], squares[2])
