"""Weights of PyTorch as safetensors: read onto a net that is known, and written with the lines that load them."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn import nets
from cnn.exchange import files, preprocessing
from cnn.exchange.assembly import classifier
from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.exchange.preprocessing import Preprocessing
from cnn.exchange.torch_weights import branching
from cnn.exchange.torch_weights import file as safetensors_file
from cnn.exchange.torch_weights import torch as safetensors_torch
from cnn.exchange.torch_weights.arrays import steps_of
from cnn.exchange.torch_weights.branching import with_parameters
from cnn.exchange.torch_weights.names import Module, fits, matched, modules, unlike
from cnn.exchange.written import check_run, whole_file
from cnn.layers import Conv, Dense, Layer
from cnn.nets import Net
from cnn.runtime import whole
from cnn.windows import GeometryError

# Sizes that nets were published for, tried where none is given: the first at which the fully connected layers fit.
SIZES = (224, 227, 32, 28, 64, 96, 95, 48, 128, 256, 299, 384, 512)
METADATA = "cnn"  # the key of what is said of the images, in the metadata of files written here


def read(
    path: str | os.PathLike[str],
    net: Net | str | None = None,
    *,
    preprocess: str | os.PathLike[str] | tuple[str | os.PathLike[str], ...] = (),
    given: Preprocessing | None = None,
) -> Classifier:
    """Reads weights under PyTorch's names onto a net.

    The names may be torchvision's (features.0.weight, classifier.6.weight), timm's (pre_logits.fc1 and head.fc, which
    are convolutions of the whole map), the layers' own, or those of any nn.Sequential, in its order. Those of a net
    that branches must be known: torchvision's and timm's (`cnn.exchange.torch_weights.published`), or the layers' own.

    Args:
      path: the .safetensors file.
      net: a net, or the name of a registered one; then the last tensor gives the number of classes. None: the net that
        the file's metadata describe, as `write` puts it there.
      preprocess: paths of config.json, preprocessor_config.json; they tell size, mean, std and class names.
      given: what the caller knows better of the images.

    Returns:
      The classifier.

    Raises:
      ExchangeError: if the file cannot be read, or tensors are missing, extra, misshapen or truncated: all are listed.
    """
    path = os.fspath(path)
    tensors, metadata = safetensors_file.read(path)
    found, unknown = modules(tensors)
    if not found:
        raise ExchangeError(f"{path}: holds no tensors of layers (weight, bias)")
    said = _said(path, metadata)
    made, built = _net(path, _own_net(path, said) if net is None else net, found)
    known = Preprocessing() if given is None else given
    known = known.over(
        preprocessing.read(*((preprocess,) if isinstance(preprocess, str | os.PathLike) else preprocess))
    )
    known = known.over(_from_metadata(path, said))
    notes = [*built]
    if known.mean is None and known.std is None:
        notes.append("no mean and no std is given: the net is taken to see pixels from 0 to 1, as ToTensor makes them")
        known = known.over(Preprocessing(mean=(0.0,), std=(1.0,)))
    pairs, notes_of_names = _pairs(path, made, found, unknown)
    notes += notes_of_names
    channels = _channels(path, made, pairs)
    size, note = _image_size(path, made, channels, pairs, known)
    steps = steps_of(path, made, (*size, channels), pairs)
    known = Preprocessing(image_size=size).over(known)
    return classifier(
        steps, channels, known, path, notes=[*notes, *note], net=made, output_activation=made.output_activation
    )


def _pairs(path: str, made: Net, found: list[Module], unknown: list[str]) -> tuple[Mapping[str, Module], list[str]]:
    """Modules by the layer's name, and notes; what is missing or left over is an error."""
    notes: list[str] = []
    branching_net = branching.branches(made)
    if branching_net:
        pairs, missing, extra, notes, by = branching.matched(path, made, found)
        notes = [*notes, *([f"tensors were matched by the names of {by}"] if by else [])]
        unlike_any = False  # each layer is compared by name, tensor by tensor
    else:
        pairs, missing, extra = matched(made.layers, found)
        unlike_any = not fits(made.layers, found)
    problems = [f"missing: {', '.join(missing[:40])}{_more(missing)}"] if missing else []
    extra = [*extra, *unknown]
    problems += [f"extra: {', '.join(extra[:40])}{_more(extra)}"] if extra else []
    if problems or unlike_any:
        problems += [] if branching_net else unlike(made.layers, pairs)
        hint = branching.others(found) or ("" if branching_net else _others(found, made))
        raise ExchangeError(f"{path}: {'; '.join(problems[:60])}{hint}")
    return pairs, notes


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 40} more" if len(names) > 40 else ""


def _net(path: str, net: Net | str, found: list[Module]) -> tuple[Net, list[str]]:
    """The net that a name means, with as many classes as the last tensor has, and with norms if the file has them."""
    if not isinstance(net, str):
        return net, []
    kernels = [module for module in found if module.kind == "kernel" and "weight" in module.tensors]
    if not kernels:
        raise ExchangeError(f"{path}: holds no kernels")
    classes = kernels[-1].tensors["weight"].shape[0]
    try:
        if branching.branches(nets.create(net)):
            return branching.created(path, net, found)
        made = nets.create(net, num_classes=classes)
        if not fits(made.layers, found) and any(module.kind == "norm" for module in found):
            made = nets.create(net, num_classes=classes, norm=True)
            return made, [f"{net} was taken with batch normalisation, as the file has it"]
    except ValueError as error:
        if isinstance(error, ExchangeError):
            raise
        if "option" not in str(error):
            raise ExchangeError(f"{path}: {error}") from None
        made = nets.create(net, num_classes=classes)
    return made, []


def _others(found: list[Module], made: Net) -> str:
    """Registered nets whose layers these tensors could be."""
    kernels = [module.tensors["weight"] for module in found if module.kind == "kernel" and "weight" in module.tensors]
    if not kernels or fits(made.layers, found):
        return ""
    names = []
    for name in nets.names():
        try:
            if fits(nets.create(name, num_classes=kernels[-1].shape[0]).layers, found):
                names.append(name)
        except ValueError:  # a net without that number of classes
            continue
    return f"; these could be the tensors of {', '.join(names)}" if names else ""


def _said(path: str, metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """What a file written here says of its net; nothing in other files."""
    said = files.parse_json(metadata[METADATA], f"{path}: metadata") if METADATA in metadata else {}
    if not isinstance(said, Mapping):
        raise ExchangeError(f"{path}: metadata: {METADATA} must be an object")
    return said


def _own_net(path: str, said: Mapping[str, Any]) -> Net:
    """The net that a file written here describes."""
    if "layers" not in said:
        raise ExchangeError(f"{path}: holds weights without a structure; name the net, such as vgg16")
    try:
        return nets.from_config(said["layers"], said.get("output_activation") or "softmax")
    except (ValueError, TypeError) as error:
        raise ExchangeError(f"{path}: metadata: {' '.join(str(error).split())}") from None


def _from_metadata(path: str, said: Mapping[str, Any]) -> Preprocessing:
    """What a file written here says of its images."""
    if not said:
        return Preprocessing()
    names = ("image_size", "mean", "std", "class_names", "output_activation")
    fields: dict[str, Any] = {name: said.get(name) for name in names}
    return preprocessing.of(f"{path}: metadata", **fields)


def _channels(path: str, made: Net, pairs: Mapping[str, Module]) -> int:
    """Channels of an image, from the first convolution."""
    kernels = ((name, layer) for name, layer in with_parameters(made.layers) if isinstance(layer, Conv | Dense))
    name, first = next(kernels, ("", None))
    module = pairs.get(name)
    weight = None if module is None else module.tensors.get("weight")
    if not isinstance(first, Conv) or weight is None or weight.ndim != 4:
        raise ExchangeError(f"{path}: its first tensors are no convolution, as that of the net is")
    return weight.shape[1] * first.groups


def _image_size(
    path: str, made: Net, channels: int, pairs: Mapping[str, Module], known: Preprocessing
) -> tuple[tuple[int, int], list[str]]:
    """Height and width of an image: what is known, or the first of `SIZES` at which the fully connected layers fit."""
    if known.image_size:
        return known.image_size, []
    if branching.branches(made):
        side = branching.PUBLISHED_SIZE
        return (side, side), [f"images are taken to have {side}x{side} pixels, those of ImageNet; give image_size"]
    dense = next((layer for layer in made.layers if isinstance(layer, Dense)), None)
    module = None if dense is None else pairs.get(str(dense.name))
    weight = None if module is None else module.tensors.get("weight")
    if dense is None or module is None or weight is None or weight.ndim < 2:
        raise ExchangeError(
            f"{path}: does not say how large images are, and no fully connected layer tells it; give image_size"
        )
    for side in SIZES:
        if _flat_size(made, (side, side, channels), dense) == int(np.prod(weight.shape[1:])):
            note = f"images are taken to have {side}x{side} pixels, the first usual size at which {dense.name} fits"
            return (side, side), [note]
    shown, tried = "x".join(map(str, weight.shape)), ", ".join(map(str, SIZES))
    raise ExchangeError(
        f"{path}: {module.name}.weight is {shown}, which fits {dense.name} at none of {tried} pixels; give image_size"
    )


def _flat_size(made: Net, image_shape: tuple[int, int, int], dense: Layer) -> int | None:
    """Values that reach a layer; None if the net does not take such images."""
    before = made.layers[: list(made.layers).index(dense)]
    shape: tuple[int, ...] = image_shape
    try:
        for layer in before:
            shape = layer.output_shape(shape)
    except GeometryError:
        return None
    return int(np.prod(shape))


def write(path: str | os.PathLike[str], run: Any) -> str:
    """Writes a net's weights under PyTorch's names, in PyTorch's layout.

    Args:
      path: the .safetensors file.
      run: a `Classifier`, or a run (`cnn.checkpoint.load_run`): what has net, variables, image_shape, mean, std and
        class_names.

    Returns:
      Lines of Python that make the net in PyTorch and load the file into it: six for a chain; for a net that branches
      those with a class of its blocks; for a registered one as torchvision makes it, whose tensors then have
      torchvision's names, the call of torchvision. Images are [N, C, H, W], normalised by
      the mean and standard deviation in the file's metadata.

    Raises:
      ExchangeError: naming the layer, if PyTorch has none that does the same; if a weight is no finite number; or if
        the file cannot be written.
      OSError: if the system does not let it be written, or another process writes it.
    """
    path = os.path.expanduser(os.fspath(path))
    text, tensors = safetensors_torch.sequential(run.net, run.variables, run.image_shape, os.path.basename(path))
    check_run(run, path)
    said = {
        "image_size": list(run.image_shape[:2]),
        "mean": np.atleast_1d(np.asarray(run.mean, np.float64)).tolist(),
        "std": np.atleast_1d(np.asarray(run.std, np.float64)).tolist(),
        "class_names": list(run.class_names),
        "output_activation": run.net.output_activation,
        "layer_pattern": str(run.net),
        "layers": nets.to_config(run.net),
    }
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import save_file
    except ImportError as error:
        raise ExchangeError(
            f"safetensors files need safetensors: python -m pip install safetensors ({error})"
        ) from None
    try:
        with whole_file(path) as part:
            save_file(tensors, part, {"format": "pt", METADATA: json.dumps(said), "load": text})
    except SafetensorError as error:
        raise ExchangeError(str(whole.cannot_write(os.fspath(path), error))) from None
    return text
