"""The smallest workflow."""

import flyte

env = flyte.TaskEnvironment(name="hello")


@env.task
async def main(name: str = "world") -> str:
    print(f"greeting {name}")
    return f"hello, {name}"
