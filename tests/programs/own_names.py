"""What a user's own file imports from beside it."""

NAMES = ["x", "y", "z"]
