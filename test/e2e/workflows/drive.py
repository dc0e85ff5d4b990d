"""Drives a run from outside, a step at a time:

    python drive.py start N SECONDS   prints the name of a run with N children
    python drive.py phases RUN        prints the phases of all actions but the root, each once a line
    python drive.py wait RUN          prints the phase and the first output
"""

import pathlib
import sys

import flyte
import flyte.io  # without it the SDK cannot read inputs that are files
import flyte.remote

import waiting

flyte.init_from_config(root_dir=pathlib.Path(__file__).parent)
match sys.argv[1:]:
    case ["start", n, seconds]:
        print(flyte.run(waiting.many, n=int(n), seconds=float(seconds)).name)
    case ["phases", run]:
        for action in flyte.remote.Action.listall(for_run_name=run):
            if action.name != "a0":
                print(action.phase.value)
    case ["wait", name]:
        run = flyte.remote.Run.get(name=name)
        run.wait(quiet=True)
        run.sync()
        print(run.phase.value, run.outputs()[0] if run.phase == "succeeded" else "")
