"""Tasks that go wrong in every way there is."""

import asyncio
import datetime
import os
import typing

import flyte
import flyte.errors

env = flyte.TaskEnvironment(name="failing", resources=flyte.Resources(cpu="100m", memory="200Mi"))


@env.task
async def user_error() -> int:
    raise ValueError("the number is wrong")


@env.task(retries=2)
async def flaky() -> int:
    attempt = int(os.environ["FLYTE_ATTEMPT_NUMBER"])
    if attempt < 2:
        raise RuntimeError(f"attempt {attempt} fails")
    return attempt


@env.task(retries=3)
async def hopeless() -> int:
    raise flyte.errors.NonRecoverableError("no retry will help")


@env.task(timeout=datetime.timedelta(seconds=2))
async def slow() -> int:
    await asyncio.sleep(600)
    return 1


@env.task
async def memory() -> int:
    block = []
    while True:
        block.append(bytearray(os.urandom(1 << 20) * 16))


@env.task
async def missing() -> int:
    import a_module_that_is_not_there  # noqa: F401

    return 1


@env.task
async def gone() -> int:
    os._exit(3)


@env.task
async def recovers() -> typing.List[str]:
    """Goes on after each child that fails."""
    seen = []
    for child in (user_error, memory, slow, gone):
        try:
            await child()
        except flyte.errors.OOMError:
            seen.append("OOM")
        except flyte.errors.TaskTimeoutError:
            seen.append("timeout")
        except flyte.errors.RuntimeUserError as e:
            seen.append(e.code)
    return seen
