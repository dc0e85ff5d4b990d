"""What comes with a later version: a task that starts by the clock."""

import flyte

env = flyte.TaskEnvironment(name="later")


@env.task(triggers=flyte.Trigger(name="nightly", automation=flyte.Cron("0 3 * * *")))
async def nightly(x: int = 1) -> int:
    return x
