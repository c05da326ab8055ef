"""Ctrl-C while a checkpoint is written: it is written whole, and then the run stops."""

import signal

import numpy as np
import orbax.checkpoint as ocp
import pytest

from cnn.runs.checkpoint import Checkpoints


def test_ctrl_c_within_a_save_waits_for_its_end(tmp_path, monkeypatch):
    save = ocp.AsyncCheckpointer.save

    def interrupted(*arguments, **options):
        signal.raise_signal(signal.SIGINT)
        return save(*arguments, **options)

    monkeypatch.setattr(ocp.AsyncCheckpointer, "save", interrupted)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), Checkpoints(str(tmp_path), 2) as checkpoints:
            checkpoints.save(7, {"params": np.arange(3.0)}, {"momentum": np.zeros(3)})
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
    with Checkpoints(str(tmp_path), 2) as checkpoints:
        assert checkpoints.latest_step() == 7
