"""What the windows of a map see beyond their own border; `cnn.dense.maps` says what each context means."""

from cnn.dense.backends import BACKENDS

CONTEXTS = ("crop", "image")


def able(context: str) -> tuple[str, ...]:
    """The backends that compute a context.

    Args:
      context: "crop", "image" or "both".

    Returns:
      Their names.
    """
    return {"crop": ("crops",), "image": BACKENDS[1:], "both": BACKENDS}[context]


def resolve_context(padded: bool, backend: str, context: str | None) -> str:
    """Decides which context a map has.

    Args:
      padded: whether the net has padding.
      backend: the backend that the caller asked for: "auto" or one of `BACKENDS`.
      context: the context that the caller asked for: "crop", "image", or None for the one that the backend computes
        ("image" for "auto").

    Returns:
      "both" for a net without padding, otherwise "crop" or "image".

    Raises:
      ValueError: if backend or context are unknown, or the backend computes the other context.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; backends: auto, {', '.join(BACKENDS)}")
    if context is not None and context not in CONTEXTS:
        raise ValueError(f"unknown context {context!r}; contexts: {', '.join(CONTEXTS)}, or None")
    if not padded:
        return "both"
    given = "crop" if backend == "crops" else "image"
    if context is None or context == given:
        return given
    if backend == "auto":
        return context
    raise ValueError(
        f"backend {backend!r} computes context {given!r}, not {context!r}: the net is padded, the two differ. Take "
        + ("backend 'crops' or 'auto'" if context == "crop" else "backend 'shift', 'atrous', 'mpf' or 'auto'")
    )
