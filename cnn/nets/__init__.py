"""Nets as data: `create` and `names` (the registry), `net` and `Net` (your own), `layer_pattern`, `init`, records."""

from cnn.nets.network import Net, init, net
from cnn.nets.patterns import layer_pattern
from cnn.nets.records import from_config, to_config
from cnn.nets.registry import create, names

__all__ = ["Net", "create", "from_config", "init", "layer_pattern", "names", "net", "to_config"]
