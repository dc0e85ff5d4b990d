"""What a task is given besides its inputs, and how one call changes it."""

import asyncio
import datetime
import os
import pathlib
import typing

import flyte
import flyte.errors
import flyte.report
from flyte.extras import ContainerTask

small = flyte.Resources(cpu="100m", memory="200Mi")
env = flyte.TaskEnvironment(name="settings", resources=small, env_vars={"OF_TASK": "task", "OF_BOTH": "task"})
graphics = flyte.TaskEnvironment(name="graphics", resources=flyte.Resources(cpu="100m", memory="200Mi", gpu="T4:1"))
confidential = flyte.TaskEnvironment(name="confidential", resources=small, secrets=flyte.Secret("key", as_env_var="KEY"))
warm = flyte.TaskEnvironment(name="warm", resources=small, reusable=flyte.ReusePolicy(replicas=2))
image = "ghcr.io/flyteorg/flyte:py3.11"
says = ContainerTask(name="says", image=image, command=["/bin/sh", "-c", "echo it says {{.inputs.what}}"], inputs={"what": str}, resources=small)
copies = ContainerTask(
    name="copies", image=image, command=["cp", "/var/inputs/what", "/var/outputs/copy"], inputs={"what": str}, outputs={"copy": str}, resources=small
)
containers = flyte.TaskEnvironment.from_task("containers", says, copies)


@env.task
async def variables() -> typing.Dict[str, str]:
    return {name: os.environ.get(name, "") for name in ("OF_TASK", "OF_BOTH", "OF_RUN")} | flyte.get_custom_context()


@env.task
async def of_child() -> typing.Dict[str, str]:
    return await variables.override(env_vars={"OF_TASK": "override"}, short_name="renamed")()


@env.task
async def sleeper(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return 1


@env.task
async def third_time(base: int = 0) -> int:
    if int(os.environ["FLYTE_ATTEMPT_NUMBER"]) < 2:
        raise ValueError("again")
    return base + 3


@env.task
async def drawn(key: str, who: int = 0) -> str:
    await asyncio.sleep(1)
    return os.urandom(8).hex()


@env.task
async def overrides(key: str) -> typing.List[str]:
    async def ending(call) -> str:
        try:
            return str(await call)
        except Exception as e:
            return type(e).__name__

    backoff = flyte.Backoff(base=datetime.timedelta(milliseconds=100), factor=2.0, cap=datetime.timedelta(seconds=1))
    alone = flyte.Cache("override", version_override=key, serialize=True, ignored_inputs=("who",))
    found = list(
        await asyncio.gather(
            ending(sleeper.override(timeout=datetime.timedelta(seconds=1))(600.0)),
            ending(sleeper.override(timeout=flyte.Timeout(max_runtime=600, deadline=3))(600.0)),
            ending(third_time.override(retries=2)()),
            ending(third_time.override(retries=flyte.RetryStrategy(count=2, backoff=backoff))(1)),
            ending(third_time.override(retries=1)(2)),
            *(ending(drawn.override(cache=alone)(key, i)) for i in range(4)),
        )
    )
    return found[:5] + [f"{len(set(found[5:]))} drawn"]


@flyte.trace
async def fallible(n: int) -> str:
    if n == 1 and os.environ["FLYTE_ATTEMPT_NUMBER"] == "0":
        raise ValueError("the second, once")
    return f"{n} {os.environ['FLYTE_ATTEMPT_NUMBER']}"


@flyte.trace
async def counts(n: int) -> typing.AsyncGenerator[int, None]:
    for i in range(n):
        yield i


@env.task(retries=1)
async def retraced() -> typing.List[str]:
    """A trace that failed is done again, one that succeeded is not, nor is a child."""
    child = await drawn("retraced")
    return [await fallible(0), await fallible(1), str([i async for i in counts(3)]), str(child == await drawn("retraced"))]


@env.task(retries=1)
async def continues() -> str:
    checkpoint = flyte.ctx().checkpoint
    found = await checkpoint.load()
    if found is None:
        await checkpoint.save(b"saved by the first")
        raise RuntimeError("once")
    found = pathlib.Path(found)
    return (found / "payload" if found.is_dir() else found).read_text()


@env.task
async def cleans_up() -> str:
    """One child fails: the others are cancelled, and another cleans up."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(sleeper(600.0))
            group.create_task(third_time())
    except ExceptionGroup as failed:
        return f"{[type(e).__name__ for e in failed.exceptions]}, cleaned up: {await sleeper(0.0)}"
    return "nothing failed"


@env.task(report=True)
async def reports() -> int:
    await flyte.report.log.aio("<h1>first tab</h1>")
    flyte.report.get_tab("other").log("<p>other tab</p>")
    await flyte.report.flush.aio()
    return 1


@env.task
async def asks() -> typing.List[str]:
    """Asks for a value of each type at once."""
    asked = [await flyte.new_condition.aio(t.__name__, data_type=t) for t in (bool, int, float, str)]
    return [repr(v) for v in await asyncio.gather(*(c.wait.aio() for c in asked))]


@graphics.task
async def draws() -> int:
    return 1


@confidential.task
async def reads_secret() -> str:
    return os.environ["KEY"]


@warm.task
async def warmed(x: int = 1) -> int:
    return x + 1
