"""Tasks that end in a way of their own, and one that looks at each."""

import asyncio
import ctypes
import os
import sys
import typing

import flyte

env = flyte.TaskEnvironment(name="odd", resources=flyte.Resources(cpu="100m", memory="200Mi"))


@env.task
async def chained() -> int:
    try:
        return 1 // 0
    except ZeroDivisionError as e:
        raise ValueError("chained") from e


@env.task
async def several() -> int:
    raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])


@env.task
async def exits() -> int:
    for i in range(100):
        print(f"line {i:03d} of those before the end, which are longer together than what a message holds")
    sys.stdout.flush()
    os._exit(3)


@env.task
async def exits_well() -> int:
    sys.exit(0)


@env.task
async def crashes() -> int:
    return ctypes.string_at(0)


@env.task
async def mistaken() -> int:
    return "no number"


@env.task
async def interrupted() -> int:
    raise KeyboardInterrupt


@env.task
def in_a_thread() -> int:
    raise RuntimeError("in a thread")


@env.task
async def talkative() -> int:
    raise ValueError("e" * 300_000)


@env.task
async def endings() -> typing.List[str]:
    async def ending(task) -> str:
        try:
            return f"{task.short_name}: {await task.aio()}"
        except Exception as e:
            return f"{task.short_name}: {getattr(e, 'code', type(e).__name__)}: {str(e)[:200]}"

    tasks = (chained, several, exits, exits_well, crashes, mistaken, interrupted, in_a_thread, talkative)
    return list(await asyncio.gather(*(ending(t) for t in tasks)))


@env.task
async def writes_bytes() -> int:
    for text in ("ünïcödé ☃ 日本語\n".encode(), b"bad \xff\xfe bytes\n", "☃".encode() * 10_000 + b"\n", b"to the end\n"):
        os.write(1, text)
    return 1
