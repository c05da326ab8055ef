"""Nets as data: `create` and `names` (the registry), `net` and `Net` (your own), `layer_pattern`."""

from cnn.nets.network import Net, net
from cnn.nets.patterns import layer_pattern
from cnn.nets.registry import create, names

__all__ = ["Net", "create", "layer_pattern", "names", "net"]
