"""Augmentation: pure functions of (key, images), for use inside a jitted step.

Each example draws from a key of its own, split from the batch's key by its place in the (global) batch, so
what happens to an image does not depend on how the batch is spread over devices. Images stay float32 in
[0, 1] and keep their size; normalisation comes after.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

PAD_MODES = {"zero": "constant", "reflect": "reflect", "edge": "edge"}  # ours -> jnp.pad's


def pad_and_crop(key: jax.Array, images: jax.Array, padding: int, mode: str = "zero") -> jax.Array:
    """Pads every side and crops each image back to its size at a random place.

    Args:
      key: a jax random key.
      images: float32 [N, H, W, C].
      padding: pixels added to each side; offsets are uniform over the 2 * padding + 1 places along an axis.
      mode: filling of the border: "zero", "reflect" (without repeating the edge pixel) or "edge" (repeat).

    Returns:
      float32 [N, H, W, C].

    Raises:
      ValueError: a negative padding, an unknown mode, or a reflection deeper than the image.
    """
    n, height, width, channels = images.shape
    if mode not in PAD_MODES:
        raise ValueError(f"pad_and_crop: mode (={mode!r}) must be one of {', '.join(PAD_MODES)}")
    if padding < 0:
        raise ValueError(f"pad_and_crop: padding (={padding}) must be at least 0 pixels")
    if mode == "reflect" and padding >= min(height, width):
        raise ValueError(
            f"pad_and_crop: reflecting {padding} pixels needs images larger than that, not {height}x{width}; "
            f"a padding of at most {min(height, width) - 1}, or mode 'edge', would do"
        )
    widths = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, widths, mode=PAD_MODES[mode])  # (N, H + 2p, W + 2p, C)

    def crop(key: jax.Array, image: jax.Array) -> jax.Array:
        y, x = jax.random.randint(key, (2,), 0, 2 * padding + 1)
        return jax.lax.dynamic_slice(image, (y, x, 0), (height, width, channels))

    return jax.vmap(crop)(jax.random.split(key, n), padded)


def flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each image left to right with probability one half.

    Args:
      key: a jax random key.
      images: float32 [N, H, W, C].

    Returns:
      float32 [N, H, W, C].
    """
    n = images.shape[0]
    mirrored = jax.vmap(jax.random.bernoulli)(jax.random.split(key, n))  # (N,)
    return jnp.where(mirrored.reshape(n, 1, 1, 1), images[:, :, ::-1], images)


def in_turn(key: jax.Array, images: jax.Array, epochs: jax.Array) -> jax.Array:
    """Mirrors each image left to right in every other epoch, and as it is in between.

    Over two epochs a net sees both, where mirroring at random shows half of the images twice the same way round. Which
    epochs an image is mirrored in is a bit of a sum over its pixels, so that about half of the images are in any epoch.

    Args:
      key: a jax random key, the same in all steps of a run.
      images: uint8 [N, H, W, C].
      epochs: how often each image was seen before, integer [N].

    Returns:
      uint8 [N, H, W, C].

    Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024), section 3.6.
    """
    n, size = images.shape[0], images.size // max(1, images.shape[0])
    factors = jax.random.bits(key, (1, size), jnp.uint32) | 1
    sums = (images.reshape(n, size).astype(jnp.uint32) * factors).sum(axis=1, dtype=jnp.uint32)
    mirrored = ((sums >> 31) + epochs.astype(jnp.uint32)) % 2 == 1
    return jnp.where(mirrored.reshape(n, 1, 1, 1), images[:, :, ::-1], images)


def scale_jitter(key: jax.Array, images: jax.Array, low: float, high: float) -> jax.Array:
    """Zooms each image about a random point of itself, keeping its size.

    The zoom s is uniform in [low, high], the same along both axes; the fixed point is uniform over the image.
    So s > 1 shows a random window of the image, and s < 1 puts the whole image, smaller, at a random place on
    zeros. Bilinear, antialiased where it shrinks.

    Args:
      key: a jax random key.
      images: float32 [N, H, W, C].
      low: smallest zoom, above 0.
      high: largest zoom, at least `low`.

    Returns:
      float32 [N, H, W, C].

    Raises:
      ValueError: not 0 < low <= high.
    """
    if not 0 < low <= high:
        raise ValueError(f"scale_jitter: low (={low}) must be above 0 and at most high (={high})")
    n, height, width, _ = images.shape

    def zoom(key: jax.Array, image: jax.Array) -> jax.Array:
        scale_key, point_key = jax.random.split(key)
        scale = jax.random.uniform(scale_key, (), minval=low, maxval=high)
        point = jax.random.uniform(point_key, (2,)) * jnp.array([height, width], jnp.float32)
        # Output pixel = scale * input pixel + translation, and it must leave `point` where it is.
        return jax.image.scale_and_translate(
            image, image.shape, (0, 1), jnp.stack([scale, scale]), (1 - scale) * point, method="linear"
        )

    return jax.vmap(zoom)(jax.random.split(key, n), images)


def brightness_contrast(key: jax.Array, images: jax.Array, brightness: float, contrast: float) -> jax.Array:
    """Scales each image's contrast about its own mean, shifts its brightness and clips to [0, 1].

    Args:
      key: a jax random key.
      images: float32 [N, H, W, C] in [0, 1].
      brightness: the shift is uniform in [-brightness, brightness], in units of the full range.
      contrast: the factor is uniform in [1 - contrast, 1 + contrast], in [0, 1]; the mean is over H, W and C.

    Returns:
      float32 [N, H, W, C] in [0, 1].

    Raises:
      ValueError: a negative brightness, or a contrast outside [0, 1].
    """
    if brightness < 0:
        raise ValueError(f"brightness_contrast: brightness (={brightness}) must be at least 0")
    if not 0 <= contrast <= 1:
        raise ValueError(f"brightness_contrast: contrast (={contrast}) must be in [0, 1]")

    def change(key: jax.Array, image: jax.Array) -> jax.Array:
        shift_key, factor_key = jax.random.split(key)
        shift = jax.random.uniform(shift_key, (), minval=-brightness, maxval=brightness)
        factor = jax.random.uniform(factor_key, (), minval=1 - contrast, maxval=1 + contrast)
        mean = jnp.mean(image)
        return jnp.clip((image - mean) * factor + mean + shift, 0.0, 1.0)

    return jax.vmap(change)(jax.random.split(key, images.shape[0]), images)


def mixup(key: jax.Array, images: jax.Array, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Mixes each image with the one at its mirrored place in the batch: the first with the last, and so on.

    The two parts are drawn from a Beta distribution for each image, and the larger one is its own: with partners at
    random this gives the same pairs as the original, and the image's own class is still the one to be right about.

    Args:
      key: a jax random key.
      images: floating [N, H, W, C].
      alpha: both parameters of the distribution, above 0: 0.2 in the paper for ImageNet, 1 for CIFAR.

    Returns:
      [N, H, W, C], and each image's own part, float32 [N], at least 0.5.

    Source: Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization" (2018), section 2.
    """
    n = len(images)
    drawn = jax.vmap(lambda one: jax.random.beta(one, alpha, alpha))(jax.random.split(key, n))  # (N,)
    own = jnp.maximum(drawn, 1 - drawn)
    part = own.reshape(n, *(1,) * (images.ndim - 1)).astype(images.dtype)
    return part * images + (1 - part) * images[::-1], own


# Standard deviations of ImageNet's pixels along their principal colours, and those colours (columns; rows are red,
# green and blue), for values in [0, 1]; the figures that Facebook's fb.resnet.torch published.
PRINCIPAL_DEVIATIONS = (0.2175, 0.0188, 0.0045)
PRINCIPAL_COLOURS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def colour_noise(key: jax.Array, images: jax.Array, deviation: float) -> jax.Array:
    """Adds one colour to all pixels of each image, drawn along the principal colours of ImageNet's pixels.

    Args:
      key: a jax random key.
      images: float32 [N, H, W, 3].
      deviation: of the normal factors that the principal colours are drawn with; 0.1 in the paper.

    Returns:
      float32 [N, H, W, 3], not clipped.

    Raises:
      ValueError: a negative deviation, or images that are not RGB.

    Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks" (2012),
    section 4.1, whose "eigenvalues" are taken for deviations, as all implementations do.
    """
    if deviation < 0:
        raise ValueError(f"colour_noise: deviation (={deviation}) must be at least 0")
    if images.shape[-1] != 3:
        raise ValueError(f"colour_noise: augment.colour_noise is for RGB images, not for {images.shape[-1]} channels")
    drawn = jax.vmap(lambda one: jax.random.normal(one, (3,)))(jax.random.split(key, len(images)))  # (N, 3)
    colours = jnp.array(PRINCIPAL_DEVIATIONS)[:, None] * jnp.array(PRINCIPAL_COLOURS).T
    return images + deviation * (drawn @ colours)[:, None, None, :]


def shift_out_of_window(key: jax.Array, images: jax.Array, fraction: float) -> tuple[jax.Array, jax.Array]:
    """Turns some examples into windows that miss their object: what a net that is run densely sees most of the time.

    Such an image is moved along one axis by between a third of the window and all of it, along the other by up to half
    of it either way; zeros move in. What is left shows a part of the object, or nothing.

    Args:
      key: a jax random key.
      images: float32 [N, H, W, C].
      fraction: probability that an example is moved, in [0, 1].

    Returns:
      float32 [N, H, W, C], and bool [N]: which examples miss their object.

    Raises:
      ValueError: a fraction outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"shift_out_of_window: fraction (={fraction}) must be between 0 and 1")
    n, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (height, height), (width, width), (0, 0)))  # (N, 3H, 3W, C)

    def move(key: jax.Array, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(key, 5)
        missed = jax.random.bernoulli(keys[0], fraction)
        far = jax.random.uniform(keys[1], (), minval=1 / 3, maxval=1.0) * jax.random.rademacher(keys[2], ())
        near = jax.random.uniform(keys[3], (), minval=-0.5, maxval=0.5)
        vertical = jax.random.bernoulli(keys[4])
        y = jnp.where(vertical, far, near) * height
        x = jnp.where(vertical, near, far) * width
        start = jnp.where(missed, jnp.round(jnp.stack([y, x])), 0).astype(jnp.int32)
        return jax.lax.dynamic_slice(image, (height + start[0], width + start[1], 0), (height, width, channels)), missed

    return jax.vmap(move)(jax.random.split(key, n), padded)


_flip, _colour_noise = flip, colour_noise  # `augment` has arguments of those names


def augment(
    key: jax.Array,
    images: jax.Array,
    *,
    pad: int = 0,
    pad_mode: str = "zero",
    flip: bool = False,
    scale: tuple[float, float] = (1.0, 1.0),
    brightness: float = 0.0,
    contrast: float = 0.0,
    colour_noise: float = 0.0,
) -> jax.Array:
    """Scale jitter, flip, pad-and-crop, brightness, contrast, colour noise; what is left at its default is not run.

    Each step has a key of its own, so switching one on or off leaves what the others draw as it was.

    Args:
      key: a jax random key, one per step of training.
      images: float32 [N, H, W, C] in [0, 1].
      pad: pixels for `pad_and_crop`; 0 is off.
      pad_mode: "zero", "reflect" or "edge".
      flip: whether to mirror half of the images.
      scale: (low, high) zoom for `scale_jitter`; (1, 1) is off.
      brightness: largest shift, in units of the full range; 0, with a contrast of 0, is off.
      contrast: largest change of the factor, in [0, 1]; 0, with a brightness of 0, is off.
      colour_noise: deviation for `colour_noise`; 0 is off.

    Returns:
      float32 [N, H, W, C]; with the defaults, the very values given.

    Raises:
      ValueError: as the functions above, each with its field and numbers.
    """
    scale_key, flip_key, crop_key, light_key = jax.random.split(key, 4)
    low, high = scale
    if (low, high) != (1.0, 1.0):
        images = scale_jitter(scale_key, images, low, high)
    # Flip before crop: they commute in distribution, but XLA on a CPU fuses a flip that follows the crop's gather into
    # a slow loop.
    if flip:
        images = _flip(flip_key, images)
    if pad != 0:
        images = pad_and_crop(crop_key, images, pad, pad_mode)
    if brightness != 0 or contrast != 0:
        images = brightness_contrast(light_key, images, brightness, contrast)
    if colour_noise != 0:
        # Not one of the keys that are split above: those are the ones that earlier runs drew from.
        images = _colour_noise(jax.random.fold_in(key, 4), images, colour_noise)
    return images


def options(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config that `augment` applies to batches on the devices.

    Args:
      fields: a config's group `augment`; others in it are applied to pictures before, or to the loss.

    Returns:
      Its keyword arguments.
    """
    parameters = inspect.signature(augment).parameters.values()
    names = [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
    return {name: fields[name] for name in names if name in fields}
