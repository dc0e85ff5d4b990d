"""The environments; who calls tasks of another says so."""

import flyte

small = flyte.Resources(cpu="100m", memory="200Mi")
words = flyte.TaskEnvironment(name="words", resources=small)
sums = flyte.TaskEnvironment(name="sums", resources=small, depends_on=[words])
shop = flyte.TaskEnvironment(name="shop", resources=small, depends_on=[words, sums])
