"""A study of two cells that trains in seconds."""

import json

from experiments.ablation import measures
from experiments.ablation.study import TEST, Contrast, Series, Study

SMALL = {"train.steps": 6, "net.options.features": 4, "net.options.width": 8}


def small_study(**fields):
    given = {
        "question": "Does <it> matter?",
        "cells": {"max": {}, "average": {"net.options.pool": "average"}},
        "baseline": "max",
        "base": "configs/smoke.py",
        "measures": (measures.shifted(1), measures.feature_distance(1, images=50)),
        "compared": (TEST, "feature distance 1 px"),
        "contrasts": (Contrast(("max", TEST), ("max", "shifted 1 px")),),
        "series": (Series("shift, pixels", "accuracy", {0: TEST, 1: "shifted 1 px"}),),
        "tune": {"train.learning_rate": (1e-4, 0.02)},
    }
    return Study(**{**given, **fields})


def lines(workdir, kind="seed"):
    """The lines of one kind in a study's results."""
    found = [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]
