"""Which tensors of a PyTorch file belong to which layer of a net: by name, or by their order within their kind."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cnn.layers import BatchNorm, Branches, Conv, Dense, Layer, LocallyConnected, PReLU, Scale

PARTS = ("weight", "bias", "running_mean", "running_var")
# Parts of names that tell where in a net a module stands, whatever the alphabet says: timm's pre_logits stands between
# features and head, and a classifier behind all of them.
_MIDDLE = ("pre_logits",)
_LAST = re.compile(r"(classifier|fc|head|linear|logits|output|out|dense|mlp|last)\d*$")


@dataclasses.dataclass(frozen=True)
class Module:
    """The tensors of one module.

    Attributes:
      name: what its tensors' names begin with.
      tensors: by the last part of their names, one of `PARTS`.
    """

    name: str
    tensors: Mapping[str, np.ndarray]

    @property
    def kind(self) -> str:
        """ "norm", "kernel" or "slope"."""
        if "running_mean" in self.tensors or "running_var" in self.tensors:
            return "norm"
        return "kernel" if self.tensors.get("weight", np.zeros(0)).ndim > 1 or "weight" not in self.tensors else "slope"


def modules(tensors: Mapping[str, np.ndarray]) -> tuple[list[Module], list[str]]:
    """Puts tensors together by module, in the order of the net.

    Args:
      tensors: arrays by name.

    Returns:
      The modules, and names of tensors that are no part of any known kind.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    unknown = []
    for name, array in tensors.items():
        module, _, part = name.rpartition(".")
        if part in PARTS:
            found.setdefault(module, {})[part] = array
        else:
            unknown.append(name)
    return [Module(name, found[name]) for name in sorted(found, key=_place)], unknown


def _place(name: str) -> tuple[tuple[int, tuple[tuple[str, int], ...]], ...]:
    """Where a module stands: features.10 behind features.2, classifier behind features."""
    key = []
    for part in name.split("."):
        rank = 1 if part in _MIDDLE else 2 if _LAST.match(part) else 0
        pieces = tuple(
            (text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d{0,9})", part) if text or number
        )
        key.append((rank, pieces))
    return tuple(key)


def kind_of_layer(layer: Layer) -> str | None:
    """The kind of module that holds a layer's parameters; None if it has none."""
    if isinstance(layer, BatchNorm | Scale):
        return "norm"
    if isinstance(layer, Conv | Dense | LocallyConnected):
        return "kernel"
    return "slope" if isinstance(layer, PReLU) else None


def matched(layers: Sequence[Layer], found: Sequence[Module]) -> tuple[dict[str, Module], list[str], list[str]]:
    """Gives each layer with parameters its module.

    Args:
      layers: the layers of a net, with names.
      found: modules in the order of the net.

    Returns:
      Modules by the layer's name; names of layers that have none; names of modules that no layer has.
    """
    wanted = {str(layer.name): kind for layer in layers if (kind := kind_of_layer(layer))}
    by_name = {module.name.rsplit(".", 1)[-1]: module for module in found}
    if set(by_name) == set(wanted) and len(by_name) == len(found):
        return by_name, [], []
    pairs: dict[str, Module] = {}
    left: list[str] = []
    missing: list[str] = []
    for kind in ("kernel", "norm", "slope"):
        names = [name for name, one in wanted.items() if one == kind]
        those = [module for module in found if module.kind == kind]
        pairs |= dict(zip(names, those, strict=False))
        missing += names[len(those) :]
        left += [module.name for module in those[len(names) :]]
    return pairs, missing, left


def outline(layers: Iterable[Layer]) -> list[tuple[int, int | None]]:
    """Features and kernel size of each layer with a kernel: nets differ in these.

    Args:
      layers: the layers of a net.

    Returns:
      (features, height of the kernel or None) for each.
    """
    sizes = []
    for layer in layers:
        if isinstance(layer, Conv):
            kernel = layer.kernel if isinstance(layer.kernel, int) else layer.kernel[0]
            sizes.append((layer.features, kernel))
        elif isinstance(layer, Dense):
            sizes.append((layer.features, None))
    return sizes


def unlike(layers: Sequence[Layer], pairs: Mapping[str, Module]) -> list[str]:
    """Layers whose features or kernel are not those of their module.

    Args:
      layers: the layers of a net, with names.
      pairs: modules by the layer's name.

    Returns:
      A text for each, with both shapes.
    """
    kernels = [layer for layer in layers if isinstance(layer, Conv | Dense)]
    texts = []
    for layer, (features, kernel) in zip(kernels, outline(layers), strict=True):
        weight = pairs[str(layer.name)].tensors.get("weight") if str(layer.name) in pairs else None
        if weight is not None and not _alike(weight.shape, features, kernel):
            needs = f"{features}x..." if kernel is None else f"{features}x...x{kernel}x{kernel}"
            module = pairs[str(layer.name)].name
            texts.append(
                f"misshapen: {module}.weight is {'x'.join(map(str, weight.shape))}, {layer.name} needs {needs}"
            )
    return texts


def _alike(shape: Sequence[int], features: int, kernel: int | None) -> bool:
    return shape[0] == features and (kernel is None or len(shape) != 4 or shape[2] == kernel)


def fits(layers: Sequence[Layer], found: Sequence[Module]) -> bool:
    """Whether the modules could be those of a net, as far as features and kernels tell."""
    if any(isinstance(layer, Branches) for layer in layers):
        return False  # whose layers within paths are not matched
    norms = sum(isinstance(layer, BatchNorm | Scale) for layer in layers)
    those = [module.tensors["weight"] for module in found if module.kind == "kernel" and "weight" in module.tensors]
    sizes = outline(layers)
    if len(those) != len(sizes) or norms != sum(module.kind == "norm" for module in found):
        return False
    return all(_alike(weight.shape, *size) for weight, size in zip(those, sizes, strict=True))
