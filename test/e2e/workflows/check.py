"""What a person does from Python against a running sandbox, one check for each word:

    python check.py CHECK

Each asserts, and prints a line that ends with "ok".
"""

import datetime
import hashlib
import pathlib
import sys
import tempfile
import time

import flyte
import flyte.errors
import flyte.remote
from flyte.io import DataFrame, Dir, File

import failing
import hello
import nested
import typed
import waiting


def outputs(task, **inputs):
    run = flyte.run(task, **inputs)
    run.wait(quiet=True)
    assert run.phase == "succeeded", (run.name, run.phase)
    values = run.outputs()
    return values[0] if len(values) == 1 else tuple(values)


def scalars():
    given = dict(i=-7, f=2.5, s="süß ☃", b=True, when=datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), took=datetime.timedelta(seconds=90, milliseconds=250))
    got = outputs(typed.scalars, **given)
    assert got == tuple(given.values()), got


def containers():
    got = outputs(typed.containers, numbers=[1, 2, 3], table={"a": [1.5], "b": []}, maybe=None)
    assert got == ([1, 2, 3], {"a": [1.5], "b": []}, None), got


def structured():
    point, model, color = outputs(typed.structured, point=typed.Point(1, 2.5, ["a"]), model=typed.Model(title="t", points={"a": 1}), color=typed.Color.GREEN)
    # What comes back to a client is made from the interface, so classes are alike and not the same.
    assert (point.x, point.y, point.names) == (1, 2.5, ["a"]), point
    assert (model.title, model.points) == ("t", {"a": 1}), model
    assert color.name == "GREEN", color


def either():
    for value in (1, "one", [1, 2]):
        assert outputs(typed.either, value=value) == value, value


def files():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "in.txt").write_text("some text")
        (root / "d").mkdir()
        (root / "d" / "one").write_text("1")
        (root / "d" / "two").write_text("2")
        file = File.from_local_sync(str(root / "in.txt"))
        tree = Dir.from_local_sync(str(root / "d"))
        out, back = outputs(typed.files, file=file, folder=tree)
    assert out.path.startswith("s3://") and back.path.startswith("s3://"), (out, back)


def frames():
    import pandas

    frame = DataFrame.from_df(pandas.DataFrame({"n": [1, 2, 3]}))
    assert outputs(typed.frames, frame=frame).uri.startswith("s3://")


def defaults():
    assert outputs(typed.defaults) == "7 b [1, 2]"
    assert outputs(typed.defaults, a=8) == "8 b [1, 2]"


def big_input():
    size = 11 << 20  # more than what the SDK sends unless the author says so
    assert outputs(typed.length.override(max_inline_io_bytes=16 << 20), text="x" * size) == size


def user_error():
    run = flyte.run(failing.user_error)
    run.wait(quiet=True)
    assert run.phase == "failed", run.phase
    message = flyte.remote.RunDetails.get(name=run.name).action_details.error_info.message
    assert message == "the number is wrong", message  # the SDK writes the traceback into the log


def retries():
    assert outputs(failing.flaky) == 2


def non_recoverable():
    run = flyte.run(failing.hopeless)
    run.wait(quiet=True)
    details = flyte.remote.RunDetails.get(name=run.name).action_details
    assert run.phase == "failed" and details.attempts == 1, (run.phase, details.attempts)


def timeout():
    run = flyte.run(failing.slow)
    run.wait(quiet=True)
    assert run.phase == "timed_out", run.phase


def oom():
    run = flyte.run(failing.memory)
    run.wait(quiet=True)
    message = flyte.remote.RunDetails.get(name=run.name).action_details.error_info.message
    assert run.phase == "failed" and "OOM" in message, (run.phase, message)


def missing_module():
    run = flyte.run(failing.missing)
    run.wait(quiet=True)
    message = flyte.remote.RunDetails.get(name=run.name).action_details.error_info.message
    assert run.phase == "failed" and "a_module_that_is_not_there" in message, (run.phase, message)


def recovers():
    got = outputs(failing.recovers)
    assert got[0] == "ValueError" and got[1] == "OOM" and got[2] == "timeout" and len(got) == 4, got


def cancels():
    assert outputs(waiting.cancels) == "went on: 5"


def groups():
    run = flyte.run(nested.grouped)
    run.wait(quiet=True)
    assert run.outputs()[0] == 1 + 16, run.outputs()
    found = {a.pb2.metadata.group for a in flyte.remote.Action.listall(for_run_name=run.name)}
    assert {"squares", "sums"} <= found, found


def traces():
    run = flyte.run(waiting.traced)
    run.wait(quiet=True)
    assert run.phase == "succeeded", run.phase
    drawn = run.outputs()[0]
    assert [d.split("-")[0] for d in drawn] == ["0", "1", "2"], drawn
    kept = [a for a in flyte.remote.Action.listall(for_run_name=run.name) if a.pb2.metadata.WhichOneof("spec") == "trace"]
    assert len(kept) == 3, kept


def traces_again():
    run = flyte.run(waiting.traced_again)
    run.wait(quiet=True)
    assert run.phase == "succeeded", run.phase
    attempts = flyte.remote.RunDetails.get(name=run.name).action_details.pb2.attempts
    assert len(attempts) == 3 and attempts[1].error_info.message == run.outputs()[0], (attempts, run.outputs())


def caching():
    key = f"key-{time.time_ns()}"
    first = outputs(waiting.stamped, key=key)
    assert outputs(waiting.stamped, key=key) == first
    assert outputs(waiting.stamps, key=key) == first  # a child has the root's key
    run = flyte.with_runcontext(overwrite_cache=True).run(waiting.stamped, key=key)
    run.wait(quiet=True)
    assert run.outputs()[0] != first


def condition():
    run = flyte.run(waiting.asks)
    signal("go_on", run, True)
    run.wait(quiet=True)
    assert run.outputs()[0] == "answered True", run.outputs()
    assert outputs(waiting.asks_in_vain) == "nobody answered"


def remote():
    run = flyte.run(hello.main, name="remote")
    run.wait(quiet=True)
    assert flyte.remote.Run.get(name=run.name).name == run.name
    assert run.name in {r.name for r in flyte.remote.Run.listall(limit=20, sort_by=("created_at", "desc"))}
    assert [a.name for a in flyte.remote.Action.listall(for_run_name=run.name)] == ["a0"]
    assert "flytesnacks" in {p.pb2.id for p in flyte.remote.Project.listall()}
    assert flyte.remote.Project.get("flytesnacks").pb2.id == "flytesnacks"


def rerun():
    run = flyte.run(hello.main, name="again")
    run.wait(quiet=True)
    second = flyte.rerun(run.name)
    second.wait(quiet=True)
    assert second.name != run.name and second.outputs()[0] == "hello, again", second.outputs()


def recovery():
    """A run that recovers another does not do again what succeeded there, unless it is told to."""
    run = flyte.run(waiting.resumes, fails=True)
    signal("resume", run, "first")
    run.wait(quiet=True)
    assert run.phase == "failed", run.phase
    message = flyte.remote.RunDetails.get(name=run.name).action_details.error_info.message
    values = message.split(",")
    assert len(values) == 3 and values[2] == "first", message

    second = flyte.rerun(run.name, recover=True, fails=False)
    second.wait(quiet=True)
    assert second.phase == "succeeded" and second.outputs()[0] == values, (second.phase, values)
    actions = {a.pb2.metadata.WhichOneof("spec"): a for a in flyte.remote.Action.listall(for_run_name=second.name) if a.name != "a0"}
    assert {kind: a.pb2.status.phase for kind, a in actions.items()} == dict.fromkeys(("task", "trace", "condition"), 10), actions

    forced = [a.name for kind, a in actions.items() if kind != "task"]
    third = flyte.rerun(run.name, recover=True, force_rerun_actions=forced, fails=False)
    signal("resume", third, "third")
    third.wait(quiet=True)
    child, trace, condition = third.outputs()[0]
    assert child == values[0] and trace != values[1] and condition == "third", (third.outputs()[0], values)


def signal(name, run, value):
    """Answers a condition once it waits."""
    for _ in range(600):
        paused = [a for a in flyte.remote.Action.listall(for_run_name=run.name) if a.pb2.metadata.WhichOneof("spec") == "condition"]
        if paused and paused[0].phase == "paused":
            flyte.remote.Condition.get(name, run_name=run.name).signal(value)
            return
        time.sleep(0.1)
    raise AssertionError("the condition never showed")


def from_inside():
    assert outputs(waiting.starts, name="inner") == "hello, inner"


def unmodified():
    """The SDK's files are those of its wheel."""
    import base64
    import importlib.metadata

    checked = 0
    for package in ("flyte", "flyteidl2", "connectrpc"):
        for file in importlib.metadata.distribution(package).files:
            if file.hash is None or file.hash.mode != "sha256":
                continue
            got = base64.urlsafe_b64encode(hashlib.sha256(file.locate().read_bytes()).digest()).rstrip(b"=").decode()
            assert got == file.hash.value, file
            checked += 1
    print(f"{checked} files are as in their wheels")


def do(checks, name):
    if name != "unmodified":
        flyte.init_from_config(root_dir=pathlib.Path(__file__).parent)
    checks[name]()
    print(name, "ok")


if __name__ == "__main__":
    do(globals(), sys.argv[1])
