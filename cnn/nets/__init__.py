"""Nets as data: `create` and `names` (the registry), `net` and `Net` (your own), `layer_pattern`, `init`."""

from cnn.nets.network import Net, init, net
from cnn.nets.patterns import layer_pattern
from cnn.nets.registry import create, names

__all__ = ["Net", "create", "init", "layer_pattern", "names", "net"]
