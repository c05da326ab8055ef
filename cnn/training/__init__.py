"""Training and evaluating: the step, the loop, metrics, predictions, several seeds at once."""
