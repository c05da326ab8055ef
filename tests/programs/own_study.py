"""A user's own study; its measure is a function of this file."""

import numpy as np

from experiments.ablation.study import TEST, Measure, Outcome, Study


def brightness(trained):
    """A number that needs no net."""
    return {"brightness": float(np.mean(trained.dataset.test.images))}


STUDY = Study(
    question="Does a study of one's own run?",
    cells={"max": {}, "average": {"net.options.pool": "average"}},
    baseline="max",
    base="own_config.py",
    measures=(Measure((Outcome("brightness", ""),), brightness),),
    compared=(TEST,),
    seeds=1,
)
