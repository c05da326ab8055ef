"""Augments a batch on one device and split over two: the same images."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnn.data import augment

assert jax.device_count() == 2
images = np.random.default_rng(0).random((8, 8, 8, 3), np.float32)
run = jax.jit(
    lambda key, images: augment.augment(key, images, pad=2, flip=True, scale=(0.8, 1.2), brightness=0.1, contrast=0.2)
)
both = NamedSharding(Mesh(np.array(jax.devices()), ("batch",)), PartitionSpec("batch"))
one = run(jax.random.key(0), images)
two = run(jax.random.key(0), jax.device_put(images, both))
# To rounding (a batch of another size is compiled anew); another draw would differ by far more.
np.testing.assert_allclose(one, two, atol=1e-5)
