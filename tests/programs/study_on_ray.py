"""Runs a small study on a local Ray cluster: DIR."""

import sys

from experiments.ablation import runner
from tests.experiments.small_study import SMALL, small_study

options = {"executor": "ray", "options": {"cpus": 1}}
runner.run_study("small", sys.argv[1], seeds=2, overrides=SMALL, study=small_study(), **options)
