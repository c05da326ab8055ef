"""A command that sends itself a signal at one stage of its work: STAGE NUMBER COMMAND ARGUMENTS..."""

import importlib
import os
import sys

stage, number, command = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sys.argv[1:4] = []
MODULES = {"run": "cnn.commands.run", "dense_eval": "experiments.dense_eval", "ablate": "experiments.ablate"}
module = importlib.import_module(MODULES[command])


def ask():
    global number
    if number:
        os.kill(os.getpid(), number)
    number = 0


def asking(module, name, within=None):
    """Replaces a function by one that asks before it goes on."""
    place = importlib.import_module(module)
    place = getattr(place, within) if within else place
    function = getattr(place, name)

    def asked(*arguments, **options):
        ask()
        return function(*arguments, **options)

    setattr(place, name, asked)


if stage == "loading":
    asking("cnn.data", "load")
elif stage == "tracing":
    asking("cnn.training.steps", "measure")
elif stage == "saving":
    asking("cnn.runs.saved_steps", "save", "Checkpoints")
elif stage == "validating":
    asking("cnn.training.loop", "score_split")
elif stage == "reporting":
    asking("cnn.reports.run_report", "write_run_page")
elif stage == "predicting":
    asking("cnn.training.evaluate", "logits")
elif stage == "dense":
    asking("cnn.protocols.scenes", "build")

if command == "run":
    module.start()
else:
    from cnn.commands import program

    program.start(module.main, "--workdir=DIR", lambda: "stopped; the same command goes on with maps that were begun")
