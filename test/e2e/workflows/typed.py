"""One task for each type of the type system: what goes in comes out."""

import datetime
import enum
import os
import tempfile
import typing
from dataclasses import dataclass, field

import flyte
from flyte.io import DataFrame, Dir, File
from pydantic import BaseModel

env = flyte.TaskEnvironment(name="typed", resources=flyte.Resources(cpu="100m", memory="300Mi"))


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


@dataclass
class Point:
    x: int
    y: float = 0.5
    names: typing.List[str] = field(default_factory=list)


class Model(BaseModel):
    title: str
    points: typing.Dict[str, int]


@env.task
async def scalars(
    i: int, f: float, s: str, b: bool, when: datetime.datetime, took: datetime.timedelta
) -> typing.Tuple[int, float, str, bool, datetime.datetime, datetime.timedelta]:
    return i, f, s, b, when, took


@env.task
async def containers(
    numbers: typing.List[int], table: typing.Dict[str, typing.List[float]], maybe: typing.Optional[str] = None
) -> typing.Tuple[typing.List[int], typing.Dict[str, typing.List[float]], typing.Optional[str]]:
    return numbers, table, maybe


@env.task
async def structured(point: Point, model: Model, color: Color) -> typing.Tuple[Point, Model, Color]:
    return point, model, color


@env.task
async def either(value: typing.Union[int, str, typing.List[int]]) -> typing.Union[int, str, typing.List[int]]:
    return value


@env.task
async def files(file: File, folder: Dir) -> typing.Tuple[File, Dir]:
    async with file.open("rb") as f:
        text = bytes(await f.read())
    with tempfile.NamedTemporaryFile("wb", suffix=".txt", delete=False) as out:
        out.write(text.upper())
    return await File.from_local(out.name), folder


@env.task
async def frames(frame: DataFrame) -> DataFrame:
    import pandas

    data = await frame.open(pandas.DataFrame).all()
    data["double"] = data["n"] * 2
    return DataFrame.from_df(data)


@env.task
async def defaults(a: int = 7, b: str = "b", c: typing.List[int] = [1, 2]) -> str:  # noqa: B006
    return f"{a} {b} {c}"


@env.task
async def told(
    i: int,
    f: float,
    s: str,
    b: bool,
    when: datetime.datetime,
    took: datetime.timedelta,
    color: Color,
    xs: typing.List[int],
    point: Point,
    either: typing.Union[int, str],
    file: File,
    folder: Dir,
    maybe: typing.Optional[int] = None,
) -> str:
    async with file.open("rb") as opened:
        text = bytes(await opened.read()).decode()
    names = sorted([found.name async for found in folder.walk()])
    return (
        f"{i} {f} {s} {b} {when} {took.total_seconds()} {color.name} {xs} {point.x} {point.y} {either} {maybe} "
        f"{text} {names} {os.environ['COLOR']}"
    )


@env.task
async def length(text: str) -> int:
    return len(text)
