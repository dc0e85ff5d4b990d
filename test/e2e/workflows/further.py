"""What a person does from Python who knows the SDK well, one check for each word:

    python further.py CHECK

It uses what only the latest versions of the SDK have. See check.py.
"""

import concurrent.futures
import datetime
import sys
import time
import typing

import flyte
import flyte.remote

import hello
import odd
import settings
import shop.main
from check import do, outputs
from flyte.models import ActionPhase


def ended(run):
    run.wait(quiet=True)
    run.sync()
    return run


def error(run):
    return flyte.remote.RunDetails.get(name=ended(run).name).action_details.error_info.message


def until(what, found):
    for _ in range(1200):
        if result := found():
            return result
        time.sleep(0.1)
    raise AssertionError(f"waited for {what}")


def refused(call, *words):
    try:
        call()
    except Exception as e:
        assert all(w in str(e) for w in words), e
    else:
        raise AssertionError(f"it was not refused; {words} were wanted")


def package():
    assert outputs(shop.main.main, n=2) == "['a', 'bb'] [0, 2]"


def endings():
    found = dict(line.split(": ", 1) for line in outputs(odd.endings))
    for name, wants in {
        "chained": ["ValueError: chained"],
        "several": ["ExceptionGroup: several"],
        "exits": ["NonZeroExitCode", "exit code 3: line 0"],  # the message begins with a whole line
        "exits_well": ["OutputsNotFound", "exit code 0"],
        "crashes": ["NonZeroExitCode", "exit code 139"],
        "mistaken": ["DataValidationError", "no number"],
        "interrupted": ["NonZeroExitCode"],
        "in_a_thread": ["RuntimeError: in a thread"],
        "talkative": ["ValueError: "],
    }.items():
        assert all(w in found[name] for w in wants), (name, found[name])
    message = error(flyte.run(odd.talkative))
    assert 200_000 < len(message) < 300_000, len(message)


def bytes_in_logs():
    run = ended(flyte.run(odd.writes_bytes))
    text = "".join(run.get_logs())
    for want in ("ünïcödé ☃ 日本語", "bad � bytes", "☃" * 5000, "to the end"):
        assert want in text, (want, text[:500])


def run_context():
    runs = [
        flyte.with_runcontext(
            env_vars={"OF_RUN": "run", "OF_BOTH": "run"}, custom_context={"by": "context"}, labels={"team": "garden"},
            annotations={"note": "a b"}, interruptible=True, service_account="default", log_level=10,
        ).run(task)
        for task in (settings.variables, settings.of_child)
    ]
    got = [ended(run).outputs()[0] for run in runs]
    assert got[0] == {"OF_TASK": "task", "OF_BOTH": "run", "OF_RUN": "run", "by": "context"}, got
    assert got[1] == {"OF_TASK": "override", "OF_BOTH": "run", "OF_RUN": "run", "by": "context"} or got[1]["OF_BOTH"] == "", got
    assert [a.pb2.metadata.task.short_name for a in flyte.remote.Action.listall(for_run_name=runs[1].name)] == ["of_child", "renamed"]
    bucket = outputs_uri(runs[0]).split("/")[2]
    raw = ended(flyte.with_runcontext(raw_data_path=f"s3://{bucket}/raw/mine").run(shop.main.main, n=1))
    assert raw.phase == "succeeded", raw.phase


def outputs_uri(run):
    return flyte.remote.RunDetails.get(name=run.name).action_details.pb2.attempts[-1].outputs.output_uri


def overrides():
    got = outputs(settings.overrides, key=f"key-{time.time_ns()}")
    assert got == ["MaxRuntimeExceededError", "DeadlineExceededError", "3", "4", "RetriesExhaustedError", "1 drawn"], got


def second_attempt():
    traced, continued, cleaned = [flyte.run(t) for t in (settings.retraced, settings.continues, settings.cleans_up)]
    assert ended(traced).outputs()[0] == ["0 0", "1 1", "[0, 1, 2]", "False"], traced.outputs()
    assert ended(continued).outputs()[0] == "saved by the first", continued.outputs()
    assert ended(cleaned).outputs()[0] == "['RuntimeUserError'], cleaned up: 1", cleaned.outputs()


def report():
    with_one, without = flyte.run(settings.reports), flyte.run(hello.main)
    html = ended(with_one).get_report()
    assert "first tab" in html and "other tab" in html, html
    refused(ended(without).get_report, "not written")


def not_served():
    """What is later work, or not there, is said in a sentence."""
    secret, container, files = flyte.run(settings.reads_secret), flyte.run(settings.says, what="so"), flyte.run(settings.copies, what="so")
    graphics, nobody, warm = flyte.run(settings.draws), flyte.with_runcontext(service_account="nobody").run(hello.main), flyte.run(settings.warmed)
    assert 'the secret "key"' in error(secret), error(secret)
    assert ended(container).phase == "succeeded", error(container)
    assert "it says so" in "".join(container.get_logs())
    assert 'the output "copy"' in error(files), error(files)
    assert ended(warm).outputs()[0] == 2
    for run, want in ((graphics, "0/1 nodes are available"), (nobody, '"nobody" not found')):

        def waits():
            details = flyte.remote.RunDetails.get(name=run.name).action_details.pb2
            return any(want in event.message for attempt in details.attempts for event in attempt.cluster_events)

        until(f"the run to say {want}", waits)
        run.abort(reason="in vain")
        assert ended(run).phase == "aborted", run.phase


def listings():
    batch = {"batch": f"b{time.time_ns()}"}
    began = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=1)
    runs = [flyte.with_runcontext(labels=batch | {"n": str(i)}).run(hello.main) for i in range(4)]
    failed = flyte.with_runcontext(labels=batch).run(odd.chained)
    for run in [*runs, failed]:
        ended(run)
    made = [run.name for run in runs]

    def names(**filters):
        return [run.name for run in flyte.remote.Run.listall(with_labels=batch | filters.pop("labels", {}), **filters)]

    assert names(sort_by=("created_at", "asc")) == [*made, failed.name]
    assert names(sort_by=("created_at", "desc")) == [failed.name, *reversed(made)]
    assert len(names(limit=2)) == 2
    assert names(labels={"n": "2"}) == [made[2]]
    assert sorted(names(with_label_keys=["n"])) == sorted(made)
    assert names(in_phase=("failed",)) == [failed.name]
    assert names(in_phase=(ActionPhase.FAILED, ActionPhase.SUCCEEDED), task_name="odd.chained") == [failed.name]
    assert names(task_version="none") == [] and names(created_by_subject="nobody") == []
    assert len(names(created_at=flyte.remote.TimeFilter(after=began))) == 5
    assert names(updated_at=flyte.remote.TimeFilter(before=began)) == []
    refused(lambda: names(sort_by=("color", "asc")), '"color"', "created_at")
    refused(failed.raise_for_status, "chained")
    assert failed.first_failure().error_info.message == "chained"


def remote_tasks():
    version = f"v{time.time_ns()}"
    flyte.deploy(shop.main.shop, version=version)
    task = flyte.remote.Task.get("shop.main", version=version)
    changed = flyte.remote.Task.get("sums.double", version=version).override(
        retries=flyte.RetryStrategy(count=2), env_vars={"A": "b"}, short_name="twice", resources=flyte.Resources(cpu="150m", memory="250Mi")
    )
    by_name, by_change = flyte.run(task, n=1, label="remote "), flyte.run(changed, x=4)
    assert ended(by_name).outputs()[0] == "remote ['a', 'bb'] [0]", by_name.outputs()
    assert ended(by_change).outputs()[0] == 8
    spec = flyte.remote.RunDetails.get(name=by_change.name).action_details.pb2.task
    assert spec.task_template.metadata.retries.retries == 2 and spec.short_name == "twice", spec
    listed = {t.name for t in flyte.remote.Task.listall()}
    assert {"shop.main", "sums.double", "sums.doubled", "words.clean"} <= listed, listed
    assert version in {t.version for t in flyte.remote.Task.listall(by_task_name="shop.main")}


def signals():
    run = flyte.run(settings.asks)

    def paused() -> typing.Dict[str, flyte.remote.Condition]:
        found = {c.name: c for c in flyte.remote.Condition.listall(run_name=run.name)}
        return found if len(found) == 4 and all(c.phase == "ACTION_PHASE_PAUSED" for c in found.values()) else {}

    asked = until("the conditions", paused)
    assert {c.name: c.expected_type for c in asked.values()} == {"bool": bool, "int": int, "float": float, "str": str}
    assert run.name in {r.name for r in flyte.remote.Run.listall(paused_actions_only=True)}
    refused(lambda: asked["int"].signal("7"), '"int"', "INTEGER")
    refused(lambda: asked["bool"].signal(1), '"bool"', "BOOLEAN")
    for name, value in {"int": 7, "bool": False, "float": 2.5, "str": "süß"}.items():
        asked[name].signal(value)
    asked["int"].signal(7)  # the same again is no other
    refused(lambda: asked["int"].signal(8), "already")
    assert ended(run).outputs()[0] == ["False", "7", "2.5", "'süß'"], run.outputs()


def ten_at_once():
    def five(who):
        runs = {f"{i} of {who}": flyte.run(hello.main, name=f"{i} of {who}") for i in range(5)}
        return {name: ended(run).outputs()[0] for name, run in runs.items()}

    with concurrent.futures.ThreadPoolExecutor() as people:
        for found in people.map(five, ("one", "the other")):
            assert found == {name: f"hello, {name}" for name in found} and len(found) == 5, found


def sentences():
    """What the command line is refused, and why. In one process: starting one costs more than a call."""
    from click.testing import CliRunner
    from flyte.cli.main import main

    long = "this-name-is-much-too-long-for-a-run-it-is"
    for words, want in {
        ("run", "--domain", "nowhere", "hello.py", "main"): 'there is no domain "nowhere"',
        ("run", "--project", "nosuch", "hello.py", "main"): "flyte create project --id nosuch",
        ("run", "--name", long, "hello.py", "main"): "has 42 characters",
        ("run", "--name", "Bad_Name", "hello.py", "main"): "must begin with a lower-case letter",
        ("deploy", "later.py", "env"): "triggers come with a later version",
        ("get", "trigger"): "triggers come with a later version",
        ("create", "secret", "key", "--value", "value"): "secrets come with a later version",
        ("get", "app"): "apps come with a later version",
        ("get", "settings"): "settings come with a later version",
        ("abort", "run", "nosuch"): "flyte get run",
        ("get", "logs", "nosuch"): "flyte get run",
        ("create", "project", "--id", "Bad_Id", "--name", "Bad"): '"Bad_Id" must have only',
        ("update", "project", "nosuch", "--archive"): 'there is no project "nosuch"',
    }.items():
        result = CliRunner().invoke(main, words)
        # A sentence may be broken into lines, in a frame.
        said = " ".join(f"{result.output} {result.exception}".replace("│", " ").split())
        assert result.exit_code != 0 and want in said, (words, result.exit_code, said)


if __name__ == "__main__":
    do(globals(), sys.argv[1])
