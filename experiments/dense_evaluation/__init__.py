"""The evaluations of `python -m experiments.dense_eval`: scenes, a grid of protocols, one picture, or a stream."""
