"""Nets by name: those of `classics`, `zoo` and `patterns`, records, and functions of the user's own."""

import difflib
import inspect
from collections.abc import Callable
from numbers import Integral
from typing import Any

from cnn.layers import Branches, Conv, Dense, Flatten, LocallyConnected
from cnn.nets import all_convolutional, classics, concatenating, patterns, residual, small_residual, zoo
from cnn.nets.network import Net
from cnn.nets.outputs import check_activation
from cnn.nets.records import from_config
from cnn.runtime import own_code

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
        zoo.caffenet,
        zoo.alexnet_owt,
        zoo.zfnet512,
        zoo.lenet_caffe,
        zoo.cifar10_quick,
        residual.resnet18,
        residual.resnet34,
        residual.resnet50,
        residual.se_resnet18,
        residual.mobilenet_v2,
        small_residual.preact_resnet,
        small_residual.resnet9,
        small_residual.whitened_resnet,
        concatenating.googlenet,
        concatenating.squeezenet,
        concatenating.densenet121,
        all_convolutional.nin,
        all_convolutional.all_cnn,
        patterns.layer_pattern,
        patterns.sharing_net,
    )
}


def layers(num_classes: int | None = None, layers: Any = None) -> Net:
    """A net of any layers, from records (`cnn.nets.to_config`).

    Args:
      num_classes: number of outputs, which must be that of the last layer; None: that of the last layer.
      layers: the records, one for each layer.

    Returns:
      The net.

    Raises:
      ValueError: if a record is not understood, or the last layer has another number of outputs.
    """
    if layers is None:
        raise ValueError("net 'layers' needs layers=[...], the records that nets.to_config(net) gives")
    built = from_config(layers)
    outputs: dict[str, int] = {}
    # What comes after a layer with features keeps their number, unless it flattens a map.
    for layer in built.layers:
        outputs = {layer.label: layer.features} if isinstance(layer, Conv | Dense | LocallyConnected) else outputs
        outputs = {} if isinstance(layer, Flatten | Branches) else outputs  # joined, they may have other channels
    for label, count in outputs.items():
        if num_classes not in (None, count):
            raise ValueError(
                f"net 'layers': {label} gives {count} scores, and num_classes (={num_classes}) asks for others; set "
                f"num_classes (net.num_classes) to {count}, or change the last record"
            )
    return built


# Beside the architectures, whose names `names` gives: a net that is nothing without its records.
_MADE_OF_OPTIONS: dict[str, Callable[..., Net]] = {"layers": layers}


def names() -> tuple[str, ...]:
    """Names of all registered architectures, sorted."""
    return tuple(sorted(_REGISTRY))


def create(name: str, num_classes: int | None = None, *, output_activation: str | None = None, **options: Any) -> Net:
    """Builds a registered net, or one of the user's own.

    Args:
      name: one of `names()`; "layers", for a net from the records that `to_config` gives, its option `layers`; or a
        function of the user's own: "my_nets.py:my_net" or "package.module:function". Such a
        file is executed; the function takes `num_classes` and any options, and returns a `Net`.
      num_classes: number of outputs; None: the function's own default, which is the published number for a registered
        net. One output tells two classes apart.
      output_activation: what the scores mean, "softmax" or "sigmoid" (`cnn.nets.outputs`); None: what the function
        says, which is a softmax for a registered net.
      **options: further arguments of the net, such as dropout=0.5.

    Returns:
      A `Net`.

    Raises:
      ValueError: if there is no such net (says which are near) or output activation, the net has no such option (says
        which it has), or a function of the user's own fails or returns no `Net`; or an option is of the wrong kind.
    """
    if not isinstance(name, str):
        raise ValueError(f"a net is named by a text, not by {name!r}; nets: {', '.join(sorted(_REGISTRY))}")
    if output_activation is not None:
        check_activation(output_activation, f"net {own_code.short(name)!r}")
    whole = isinstance(num_classes, Integral) and not isinstance(num_classes, bool)
    if num_classes is not None and not (whole and num_classes >= 1):
        must = "at least 1" if whole else "a whole number of at least 1"
        raise ValueError(f"net {name!r}: num_classes (={num_classes!r}) must be {must}")
    own = own_code.is_reference(name)
    registered = _REGISTRY | _MADE_OF_OPTIONS
    if not own and name not in registered:
        near = difflib.get_close_matches(name, registered, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(
            f"unknown net {name!r}; {hint}nets: {', '.join(sorted(registered))}, or a function of your own: "
            "my_nets.py:my_net"
        )
    build = own_code.load(name, "net.name") if own else registered[name]
    shown = own_code.short(name)
    known = inspect.signature(build).parameters
    if num_classes is not None:
        options["num_classes"] = num_classes
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    unknown = [] if takes_any else sorted(set(options) - set(known))
    if unknown == ["num_classes"]:
        raise ValueError(f"net {shown!r} must take num_classes, the number of its outputs")
    if unknown:
        takes = ", ".join(str(parameter) for parameter in known.values())
        raise ValueError(f"net {shown!r} has no option {', '.join(unknown)}; it takes {takes}")
    if own:
        return _with_activation(_own(build, name, options), output_activation)
    try:
        return _with_activation(build(**options), output_activation)
    # Such as a word for a number, or a number so large that no net can have it.
    except (TypeError, AttributeError, ArithmeticError, LookupError, RecursionError) as error:
        text = f"{type(error).__name__}: {error}"
        raise ValueError(f"net {name!r} cannot be built with the options {options}: {text}") from error


def _with_activation(net: Net, output_activation: str | None) -> Net:
    return net if output_activation is None else net.clone(output_activation=output_activation)


def _own(build: Callable[..., Any], name: str, options: dict[str, Any]) -> Net:
    """Calls a function of the user's own; an error in it is reported with its file and line."""
    try:
        built = build(**options)
    except Exception as error:
        raise ValueError(f"net {own_code.describe(error, own_code.source_file(name))}") from error
    if not isinstance(built, Net):
        raise ValueError(
            f"net {own_code.short(name)!r} returned {type(built).__name__}; a net is made of the layers of cnn.layers: "
            "return nets.net(Conv(8, 3), Activation(), MaxPool(2), Flatten(), Dense(num_classes))"
        )
    return built
