"""What `python -m experiments.dense_eval` does: scenes, a grid of protocols, one picture, or a stream to a map."""
