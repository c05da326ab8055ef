"""Reads a classifier that Keras saved, without Keras."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cnn.exchange import preprocessing
from cnn.exchange.assembly import classifier
from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.exchange.keras import files as keras_files
from cnn.exchange.keras import layers as keras_layers
from cnn.exchange.keras.chain import Chain
from cnn.exchange.preprocessing import Preprocessing
from cnn.layers import Activation, Conv

MODELS = ("Sequential", "Functional", "Model")
DEEPEST = 24


def read(
    path: str | os.PathLike[str],
    structure: str | os.PathLike[str] | None = None,
    *,
    given: Preprocessing | None = None,
) -> Classifier:
    """Reads .keras, .h5 of Keras 2 and 3, or .weights.h5 with the JSON of its architecture.

    Rescaling and Normalization in front become mean and standard deviation, and a softmax or sigmoid at the end becomes
    the net's output activation. Without any of the former, pixels are taken to be from 0 to 255 as they are.

    Args:
      path: the file.
      structure: the JSON that `model.to_json()` writes; None: the description in the file.
      given: what the caller knows better of the images; its mean and std are those before the model's own layers.

    Returns:
      The classifier.

    Raises:
      ExchangeError: if a file cannot be read, a layer has no counterpart here, weights are missing, misshapen or more
        than a layer takes (all are listed), or the model is no chain.
    """
    path = os.fspath(path)
    found = keras_files.read(path, None if structure is None else os.fspath(structure))
    where = path if structure is None else os.fspath(structure)
    chain = Chain(path, found.major, found.arrays)
    shape: Sequence[Any] | None = None
    for layer in _flat(found.config, where):
        shape = shape or _input_shape(layer)
        keras_layers.add(chain, layer)
    shape = shape or _input_shape(found.config)
    unused = sorted(set(found.arrays) - chain.used)
    if unused:
        chain.problems.append(f"weights of layers that the description has not: {', '.join(unused[:20])}")
    if chain.problems:
        raise ExchangeError(f"{path}: {'; '.join(chain.problems[:50])}")
    if chain.padding:
        raise ExchangeError(f"{path}: ends with a ZeroPadding2D, which nothing follows")
    return _finish(chain, path, shape, given)


def _finish(chain: Chain, path: str, shape: Sequence[Any] | None, given: Preprocessing | None) -> Classifier:
    """The classifier of a chain."""
    known = Preprocessing() if given is None else given
    height, width, channels = (list(shape or ()) + [None] * 3)[:3]
    first = next((step for step in chain.steps if isinstance(step.layer, Conv) and "kernel" in step.params), None)
    if channels is None and first is not None and isinstance(first.layer, Conv):
        channels = first.params["kernel"].shape[2] * first.layer.groups
    if not isinstance(channels, int) or channels < 1:
        raise ExchangeError(f"{path}: does not say how many channels its images have")
    if known.std is None and np.all(chain.factor == 1) and np.all(chain.offset == 0):
        chain.notes.append("no layer in front rescales: the net is taken to see pixels from 0 to 255 as they are")
    # Pixels u from 0 to 1 become (u - mean) / std, and then factor * that + offset.
    mean, std = np.asarray(known.mean or 0.0, np.float64), np.asarray(known.std or 1 / 255, np.float64)
    try:
        if np.any(chain.factor <= 0):
            raise ExchangeError(f"{path}: pixels are multiplied by {chain.factor.tolist()}, which must be above 0")
        mean, std = mean - chain.offset * std / chain.factor, std / chain.factor
    except ValueError:
        raise ExchangeError(f"{path}: mean, std and the layers in front have different numbers of channels") from None
    sizes = [height, width] if isinstance(height, int) and isinstance(width, int) else None
    own = preprocessing.of(path, image_size=known.image_size or sizes, mean=np.atleast_1d(mean), std=np.atleast_1d(std))
    steps, activation = chain.steps, "softmax"
    last = steps[-1].layer if steps else None
    if chain.end is None and isinstance(last, Activation) and last.function == "sigmoid":
        steps, activation = steps[:-1], "sigmoid"
        chain.notes.append(f"{last.name} (sigmoid) was dropped: scores are logits, each of a class of its own")
    known = Preprocessing(None, None, None, known.channels, known.class_names, known.output_activation, known.notes)
    return classifier(steps, channels, known.over(own), path, output_activation=activation, notes=chain.notes)


def _input_shape(layer: Mapping[str, Any]) -> list[Any] | None:
    """(H, W, C) that a layer declares; entries may be None."""
    config = layer.get("config")
    build = layer.get("build_config")
    for source in (config, build):
        if not isinstance(source, Mapping):
            continue
        for field in ("batch_shape", "batch_input_shape", "build_input_shape", "input_shape"):
            shape = source.get(field)
            if isinstance(shape, list | tuple) and len(shape) == 4:
                return list(shape[1:])
    return None


def _flat(model: Mapping[str, Any], where: str, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The layers of a model in the order of the chain, those of models within it among them."""
    kind, config = model.get("class_name"), model.get("config")
    if depth > DEEPEST:
        raise ExchangeError(f"{where}: models lie in one another more than {DEEPEST} deep")
    if kind not in MODELS:
        raise ExchangeError(
            f"{where}: is a {str(kind)[:60]}, whose structure is code of its own; save a Sequential or Functional model"
        )
    layers = config if isinstance(config, list) else config.get("layers") if isinstance(config, Mapping) else None
    if not isinstance(layers, list) or not all(isinstance(layer, Mapping) for layer in layers):
        raise ExchangeError(f"{where}: the {kind} model lists no layers")
    functional = isinstance(config, Mapping) and "output_layers" in config
    for layer in _in_order(config, layers, where) if functional and isinstance(config, Mapping) else layers:
        if layer.get("class_name") in MODELS:
            yield from _flat(layer, where, depth + 1)
        else:
            yield layer


def _in_order(config: Mapping[str, Any], layers: Sequence[Mapping[str, Any]], where: str) -> list[Mapping[str, Any]]:
    """The layers of a Functional model from its input to its output."""
    by_name = {_name(layer): layer for layer in layers}
    outputs = _histories(config.get("output_layers"))
    if len(outputs) != 1:
        names = ", ".join(dict.fromkeys(outputs)) or "none"
        raise ExchangeError(f"{where}: has {len(outputs)} outputs ({names[:200]}); save a model with one of them")
    chain: list[Mapping[str, Any]] = []
    name, seen = outputs[0], set()
    while True:
        layer = by_name.get(name)
        if layer is None or name in seen:
            raise ExchangeError(
                f"{where}: {name[:100]} {'follows itself' if name in seen else 'is no layer of the model'}"
            )
        seen.add(name)
        chain.append(layer)
        before = list(dict.fromkeys(_histories(layer.get("inbound_nodes"))))
        if len(before) > 1:
            raise ExchangeError(
                f"{where}: {name} ({layer.get('class_name')}): takes {', '.join(before)[:200]}, and nets "
                "here are chains; cut the model before the branches join"
            )
        if not before:
            break
        name = before[0]
    inputs = _histories(config.get("input_layers"))
    if inputs and inputs != [name]:
        raise ExchangeError(f"{where}: its chain begins at {name}, and its inputs are {', '.join(inputs)[:200]}")
    return chain[::-1]


def _name(layer: Mapping[str, Any]) -> str:
    config = layer.get("config")
    return str(layer.get("name") or (config.get("name") if isinstance(config, Mapping) else ""))


def _histories(node: Any, depth: int = 0) -> list[str]:
    """Names of the layers that a node refers to: ["name", 0, 0] or {"keras_history": ["name", 0, 0]}, nested."""
    if depth > 4 * DEEPEST:
        return []
    if isinstance(node, Mapping):
        return [name for value in node.values() for name in _histories(value, depth + 1)]
    if isinstance(node, list | tuple):
        if len(node) in (3, 4) and isinstance(node[0], str) and all(isinstance(part, int) for part in node[1:3]):
            return [node[0]]
        return [name for value in node for name in _histories(value, depth + 1)]
    return []
