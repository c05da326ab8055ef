"""A config that does not start from the defaults: all other fields are missing."""

from ml_collections import ConfigDict


def get_config():
    """One field alone."""
    return ConfigDict({"seed": 1})
