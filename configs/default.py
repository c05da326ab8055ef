"""The default of every field; the fields and their meaning are in `cnn/runs/defaults.py`; see main.py --help."""

from cnn.runs.defaults import get_config

__all__ = ["get_config"]
