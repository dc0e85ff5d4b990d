"""Tasks that are not async, and one that maps over them."""

import flyte

from shop.environments import sums


@sums.task
def double(x: int) -> int:
    return 2 * x


@sums.task
def doubled(n: int) -> int:
    return sum(flyte.map(double, range(n)))
