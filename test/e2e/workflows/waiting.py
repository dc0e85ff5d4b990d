"""Tasks that take long, are cancelled, traced, cached or asked."""

import asyncio
import datetime
import os
import typing

import flyte
import flyte.errors

env = flyte.TaskEnvironment(name="waiting", resources=flyte.Resources(cpu="100m", memory="200Mi"))


@env.task
async def sleeper(seconds: float, i: int = 0) -> int:
    await asyncio.sleep(seconds)
    return i


@env.task
async def many(n: int = 50, seconds: float = 600.0) -> int:
    return sum(await asyncio.gather(*(sleeper(seconds, i) for i in range(n))))


@env.task
async def cancels() -> str:
    """Cancels one child and goes on with another."""
    doomed = asyncio.create_task(sleeper(600.0))
    await asyncio.sleep(3)
    doomed.cancel()
    try:
        await doomed
    except asyncio.CancelledError:
        pass
    return f"went on: {await sleeper(0.0, 5)}"


@flyte.trace
async def draw(n: int) -> str:
    return f"{n}-{os.urandom(8).hex()}"


@env.task(retries=1)
async def traced() -> typing.List[str]:
    """Fails after its traces; the second attempt has to see the values of the first."""
    drawn = [await draw(i) for i in range(3)]
    if os.environ["FLYTE_ATTEMPT_NUMBER"] == "0":
        print("FIRST " + ",".join(drawn))
        raise RuntimeError("once")
    print("SECOND " + ",".join(drawn))
    return drawn


@flyte.trace
async def shaky(n: int) -> str:
    if os.environ["FLYTE_ATTEMPT_NUMBER"] == "0":
        raise RuntimeError("not yet")
    return f"{n}-{os.urandom(8).hex()}"


@env.task(retries=2)
async def traced_again() -> str:
    """Its trace fails in the first attempt; the value of the second has to be that of the third, too."""
    value = await shaky(1)
    if os.environ["FLYTE_ATTEMPT_NUMBER"] == "1":
        raise RuntimeError(value)
    return value


@env.task(cache=flyte.Cache("override", version_override="1"))
async def stamped(key: str) -> str:
    return f"{key} {os.urandom(8).hex()}"


@env.task
async def stamps(key: str) -> str:
    return await stamped(key)


@env.task
async def asks() -> str:
    condition = await flyte.new_condition.aio("go_on", prompt="Shall it go on?", data_type=bool)
    return f"answered {await condition.wait.aio()}"


@env.task
async def asks_in_vain() -> str:
    condition = await flyte.new_condition.aio("nobody", data_type=str, timeout=datetime.timedelta(seconds=2))
    try:
        return await condition.wait.aio()
    except flyte.errors.ConditionTimedoutError:
        return "nobody answered"


@env.task
async def chance() -> str:
    return os.urandom(8).hex()


@env.task
async def resumes(fails: bool) -> typing.List[str]:
    """Fails with the values that its recovery has to see again: a child's, a trace's and a condition's."""
    condition = await flyte.new_condition.aio("resume", data_type=str)
    values = [await chance(), await draw(7), await condition.wait.aio()]
    if fails:
        raise RuntimeError(",".join(values))
    return values


@env.task
async def chatty(lines: int = 1000) -> int:
    for i in range(lines):
        print(f"line {i:05d}")
    return lines


@env.task
async def starts(name: str = "started") -> str:
    """Starts a run of its own."""
    import hello

    run = await flyte.run.aio(hello.main, name=name)
    await run.wait.aio()
    return f"{(await run.outputs.aio())[0]}"
