"""Slow, obviously right NumPy versions of what `cnn` computes; they share no code with it."""
