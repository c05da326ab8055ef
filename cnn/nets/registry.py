"""The registry: nets by name. The nets are in `cnn.nets.classics` and `cnn.nets.patterns`."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from cnn.nets import classics, patterns
from cnn.nets.network import Net

_REGISTRY: dict[str, Callable[..., Net]] = {
    build.__name__: build
    for build in (
        classics.qa_net,
        classics.full_cnn,
        classics.lenet5,
        classics.alexnet,
        classics.vgg11,
        classics.vgg13,
        classics.vgg16,
        classics.vgg19,
        classics.giusti_n4,
        patterns.layer_pattern,
        patterns.sharing_net,
    )
}


def names() -> tuple[str, ...]:
    """Names of all registered nets, sorted."""
    return tuple(sorted(_REGISTRY))


def create(name: str, num_classes: int | None = None, **options: Any) -> Net:
    """Builds a registered net.

    Args:
      name: one of `names()`.
      num_classes: number of outputs; None: as published.
      **options: what else the net takes, for example dropout=0.5.

    Returns:
      A `Net`.

    Raises:
      ValueError: if there is no such net (says which are near) or it has no such option (says which it has).
    """
    if name not in _REGISTRY:
        near = difflib.get_close_matches(name, _REGISTRY, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"unknown net {name!r}; {hint}nets: {', '.join(sorted(_REGISTRY))}")
    build = _REGISTRY[name]
    known = inspect.signature(build).parameters
    unknown = sorted(set(options) - set(known))
    if unknown:
        takes = ", ".join(str(parameter) for parameter in known.values())
        raise ValueError(f"net {name!r} has no option {', '.join(unknown)}; it takes {takes}")
    if num_classes is not None:
        if num_classes < 1:
            raise ValueError(f"net {name!r}: num_classes (={num_classes}) must be at least 1")
        options["num_classes"] = num_classes
    return build(**options)
