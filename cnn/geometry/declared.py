"""Whether layers say which pixels they mix."""

from cnn.layers import Dense, Flatten, Layer
from cnn.windows import GeometryError


class UndeclaredError(GeometryError):
    """A layer that does not say whether it mixes pixels, or says it wrongly; the message names the layer."""


def check_declaration(layer: Layer) -> None:
    """Refuses layers that do not declare whether they mix pixels, or that mix pixels and declare no window."""
    if layer.mixes_pixels is None:
        raise UndeclaredError(
            f"{layer.label}: does not say whether it mixes pixels. Set mixes_pixels = False in class "
            f"{type(layer).__name__} if every output pixel depends on the input pixel at its own place alone; else "
            f"derive it from cnn.layers.WindowLayer and return its window from window()"
        )
    if isinstance(layer, Flatten | Dense):
        return
    if layer.mixes_pixels and type(layer).window is Layer.window:
        raise UndeclaredError(
            f"{layer.label}: mixes pixels and does not say over which window; class {type(layer).__name__} must return "
            f"it from window()"
        )
    if not layer.mixes_pixels and type(layer).window is not Layer.window:
        raise UndeclaredError(
            f"{layer.label}: has a window() and says mixes_pixels = False; remove one of the two from class "
            f"{type(layer).__name__}"
        )
