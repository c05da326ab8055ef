"""Trains a small run that kills itself in its tenth step: WORKDIR."""

import os
import signal
import sys

from cnn.train import train_and_evaluate
from cnn.training import dispatch
from tests.made import small_config

make_step, count = dispatch.make_run_steps, 0


def counting(*arguments, **options):
    run = make_step(*arguments, **options)

    def killed(state, images, labels, indices):
        global count
        count += len(indices)
        if count > 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return run(state, images, labels, indices)

    return killed


dispatch.make_run_steps = counting
train_and_evaluate(small_config(), sys.argv[1])
