"""Which tensors belong to which layer of a net that branches: by names that are known, never by their order."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cnn import nets
from cnn.exchange.classifier import ExchangeError
from cnn.exchange.torch_weights import published
from cnn.exchange.torch_weights.names import Module, kind_of_layer
from cnn.layers import Branches, Conv, Dense, Layer
from cnn.nets import Net

# Options of a registered net that a file tells: the one whose kernels fit is taken.
VARIANTS: dict[str, tuple[Mapping[str, Any], ...]] = {
    "squeezenet": ({}, {"version": "1.0"}),
    "googlenet": ({}, {"kernel": 5}),
}
PUBLISHED_SIZE = 224  # pixels, height and width: of all nets whose names are known


class Match(NamedTuple):
    """Which modules are whose.

    Attributes:
      pairs: modules by the layer's name, "block1/conv2" within a block.
      missing: names of modules that are not in the file, each with its layer's.
      extra: names of modules that no layer has.
      notes: what was left out, a sentence each.
      by: whose names they are, in words; "" for the layers' own.
    """

    pairs: dict[str, Module]
    missing: list[str]
    extra: list[str]
    notes: list[str]
    by: str


def branches(net: Net) -> bool:
    """Whether a net has layers that branch."""
    return any(isinstance(layer, Branches) for layer in net.layers)


def with_parameters(layers: Sequence[Layer], block: str = "") -> Iterator[tuple[str, Layer]]:
    """The layers that hold parameters, path by path, each with its name, "block1/conv2" within a block.

    Args:
      layers: layers one after another.
      block: what their names begin with.

    Yields:
      (name, layer).
    """
    for layer in layers:
        if isinstance(layer, Branches):
            for path in layer.checked():
                yield from with_parameters(path, f"{block}{layer.name}/")
        elif kind_of_layer(layer):
            yield f"{block}{layer.name}", layer


def matched(path: str, net: Net, found: Sequence[Module]) -> Match:
    """Gives each layer with parameters its module.

    Args:
      path: the file, for the error.
      net: a net that branches.
      found: the modules of the file.

    Returns:
      The `Match` of the names of which the file has most.

    Raises:
      ExchangeError: if the file has none of the names that are known.
    """
    layers = [name for name, _ in with_parameters(net.layers)]
    modules = {module.name: module for module in found}
    firsts = {name.split(".")[0] for name in modules}
    shorter = {name.partition(".")[2]: module for name, module in modules.items()}
    taken_off = next(iter(firsts)) if len(firsts) == 1 and all(shorter) else ""
    known = [(tuple(name.replace("/", ".") for name in layers), (), "")]
    known += [(one.names, one.left_out, one.by) for one in published.every() if len(one.names) == len(layers)]
    best: tuple[int, tuple[str, ...], tuple[str, ...], str, dict[str, Module]] | None = None
    for names, left_out, by in known:
        for those in (modules, shorter) if taken_off else (modules,):
            count = sum(name in those for name in names)
            if count and (best is None or count > best[0]):
                best = count, names, left_out, by, those
    if best is None:
        shown = ", ".join(module.name for module in found[:3])
        own = ", ".join(name.replace("/", ".") for name in [*layers[:1], *(one for one in layers if "/" in one)][:3])
        raise ExchangeError(
            f"{path}: the names of its tensors ({shown}, ...) are none that are known for this net of {len(layers)} "
            f"layers with weights: {own}, ..., as this project writes them, or those of torchvision and timm"
            f"{others(found)}; rename the tensors"
        )
    _, names, left_out, by, those = best
    pairs = {layer: those[name] for layer, name in zip(layers, names, strict=True) if name in those}
    missing = [f"{name} (of {layer})" for layer, name in zip(layers, names, strict=True) if name not in those]
    rest = [name for name in those if name not in set(names)]
    dropped = [name for name in rest if name.startswith(left_out)] if left_out else []
    notes = list(dict.fromkeys(one.note for one in published.every() if one.note and one.names == names))
    if dropped:
        heads = " and ".join(sorted({name.split(".")[0] for name in dropped}))
        count = sum(len(those[name].tensors) for name in dropped)
        notes.append(f"the auxiliary heads {heads}, which training alone needs, were left out: {count} tensors")
    if those is shorter:
        notes.append(f"all names of tensors begin with {taken_off}., which was taken off")
    return Match(pairs, missing, [name for name in rest if name not in dropped], notes, by)


def created(path: str, name: str, found: Sequence[Module]) -> tuple[Net, list[str]]:
    """The registered net of a name, with the options and the number of classes that the file has.

    Args:
      path: the file, for errors.
      name: of a net that branches.
      found: the modules of the file.

    Returns:
      The net, and notes on its options.

    Raises:
      ExchangeError: if the file has none of the names that are known.
    """
    counts = []
    for options in VARIANTS.get(name, ({},)):
        match = matched(path, nets.create(name, **options), found)
        net = nets.create(name, _classes(nets.create(name, **options), match), **options)
        counts.append((len(match.missing) + len(match.extra) + len(unlike(net, match.pairs)), options, net))
    _, options, net = min(counts, key=lambda one: one[0])
    said = ", ".join(f"{option} {value}" for option, value in options.items())
    return net, [f"{name} was taken with {said}, as the file has it"] if said else []


def _classes(net: Net, match: Match) -> int | None:
    """Features of the last layer with a kernel, as the file has them."""
    last = [name for name, layer in with_parameters(net.layers) if isinstance(layer, Conv | Dense)][-1]
    weight = match.pairs[last].tensors.get("weight") if last in match.pairs else None
    return None if weight is None or not weight.ndim else int(weight.shape[0])


def unlike(net: Net, pairs: Mapping[str, Module]) -> list[str]:
    """Layers whose features or kernel are not those of their module.

    Args:
      net: a net that branches.
      pairs: modules by the layer's name.

    Returns:
      Names of the layers.
    """
    found = []
    for name, layer in with_parameters(net.layers):
        weight = pairs[name].tensors.get("weight") if name in pairs else None
        if weight is None or not isinstance(layer, Conv | Dense):
            continue
        kernel = layer.kernel if isinstance(layer, Conv) else 1
        size = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
        if weight.shape[0] != layer.features or (weight.ndim == 4 and weight.shape[2:] != size):
            found.append(name)
    return found


def others(found: Sequence[Module]) -> str:
    """Registered nets of whose published names a file has all, in words for the end of an error."""
    have = {module.name for module in found}
    names = dict.fromkeys(one.net for one in published.every() if have.issuperset(one.names))
    return f"; these could be the tensors of {', '.join(names)}" if names else ""
