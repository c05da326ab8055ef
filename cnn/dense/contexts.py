"""What the windows of a map see beyond their own border; `cnn.dense.maps` says what each context means."""

from cnn.dense.backends import BACKENDS
from cnn.dense.prepared import PreparedNet
from cnn.windows import GeometryError

CONTEXTS = ("crop", "image")


def able(context: str) -> tuple[str, ...]:
    """The backends that compute a context.

    Args:
      context: "crop", "image" or "both".

    Returns:
      Their names.
    """
    return {"crop": ("crops",), "image": BACKENDS[1:], "both": BACKENDS}[context]


def resolve_context(prepared: PreparedNet | None, backend: str, context: str | None) -> str:
    """Decides which context a map has.

    Args:
      prepared: the classifier and its window; None: there are no images, and names alone are checked.
      backend: the backend that the caller asked for: "auto" or one of `BACKENDS`.
      context: the context that the caller asked for: "crop", "image", or None for the one that the backend computes
        ("image" for "auto").

    Returns:
      "both" for a net without padding, otherwise "crop" or "image".

    Raises:
      ValueError: if backend or context are unknown, or the backend computes the other context.
      GeometryError: if a `cnn.layers.Gate` gives other scores in the two contexts, and none was asked for.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; backends: auto, {', '.join(BACKENDS)}")
    if context is not None and context not in CONTEXTS:
        raise ValueError(f"unknown context {context!r}; contexts: {', '.join(CONTEXTS)}, or None")
    if prepared is None or not prepared.padded:
        return "both"
    given = "crop" if backend == "crops" else "image"
    if prepared.centred_gate and context is None and backend != "crops":
        raise GeometryError(
            f"{prepared.centred_gate}; take context='crop' (backend 'crops', which cuts every window out), or "
            f"context='image', another net: its gate weighs each value by the mean of as many around it"
        )
    if context is None or context == given:
        return given
    if backend == "auto":
        return context
    why = "has a gate of each window's own mean" if prepared.centred_gate else "is padded"
    raise ValueError(
        f"backend {backend!r} computes context {given!r}, not {context!r}: the net {why}, the two differ. Take "
        + ("backend 'crops' or 'auto'" if context == "crop" else "backend 'shift', 'atrous', 'mpf' or 'auto'")
    )
