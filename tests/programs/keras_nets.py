"""Writes nets with Keras in all forms of its files, with images and its own outputs: python keras_nets.py FOLDER."""

import os
import pathlib
import sys
import warnings

os.environ["KERAS_BACKEND"] = "jax"
warnings.filterwarnings("ignore")

import keras  # noqa: E402  the backend is chosen when it is imported
import numpy as np  # noqa: E402
from keras import layers as kl  # noqa: E402


def sequential() -> keras.Model:
    """Every layer with a trap of its own, in a row."""
    return keras.Sequential(
        [
            keras.Input((18, 20, 3)),
            kl.Rescaling(1 / 127.5, offset=-1),
            kl.Conv2D(6, 3, padding="same", activation="relu", name="features_b"),
            kl.BatchNormalization(scale=False),
            kl.MaxPooling2D(3, strides=2, padding="same"),
            kl.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
            kl.LeakyReLU(),
            kl.SeparableConv2D(8, 3, padding="valid", activation="silu"),
            kl.BatchNormalization(center=False),
            kl.ELU(0.7),
            kl.AveragePooling2D(2, padding="same"),
            kl.SpatialDropout2D(0.3),
            kl.ZeroPadding2D(((1, 0), (2, 1))),
            kl.Conv2D(8, (3, 2), strides=2, use_bias=False),
            kl.PReLU(shared_axes=[1, 2]),
            kl.Flatten(),
            kl.Dense(9, activation="gelu"),
            kl.BatchNormalization(),
            kl.Dropout(0.5),
            kl.Dense(5, activation="softmax"),
        ]
    )


def functional() -> keras.Model:
    """Normalisation with statistics that were adapted, a model within, groups, dilation, a sigmoid head."""
    normal = kl.Normalization()
    normal.adapt(np.random.default_rng(5).uniform(0, 255, (50, 4, 4, 3)).astype(np.float32))
    inner = keras.Sequential(
        [keras.Input((16, 16, 6)), kl.Conv2D(8, 3, groups=2, activation="hard_sigmoid"), kl.BatchNormalization()],
        name="inner",
    )
    images = keras.Input((16, 16, 3))
    x = kl.RandomFlip()(normal(images))
    x = kl.Conv2D(6, 3, dilation_rate=2, padding="same", activation="leaky_relu")(x)
    x = inner(x)
    x = kl.ReLU(max_value=4.0)(x)
    x = kl.GlobalAveragePooling2D()(x)
    return keras.Model(images, kl.Dense(4, activation="sigmoid")(x))


def convolutional() -> keras.Model:
    """A map of scores: Dense at each pixel, and a Softmax layer of its own."""
    images = keras.Input((12, 12, 1))
    x = kl.Rescaling(1 / 255)(images)
    x = kl.Normalization(mean=[0.4], variance=[0.09])(x)
    x = kl.Conv2D(4, 5, strides=2, padding="same", activation="tanh")(x)
    x = kl.ReLU(negative_slope=0.1)(x)
    x = kl.ZeroPadding2D(1)(x)
    x = kl.AveragePooling2D(3, strides=1)(x)
    x = kl.Dense(6, activation="mish")(x)
    x = kl.GlobalMaxPooling2D(keepdims=True)(x)
    x = kl.Conv2D(3, 1)(x)
    return keras.Model(images, kl.Softmax()(kl.Flatten()(x)))


def refused() -> dict[str, keras.Model]:
    """Models that are no chains, or hold a layer without counterpart."""
    images = keras.Input((8, 8, 3))
    conv = kl.Conv2D(3, 3, padding="same")(images)
    return {
        "branch": keras.Model(images, kl.Dense(2)(kl.Flatten()(kl.Add()([conv, images])))),
        "heads": keras.Model(images, [kl.Dense(2)(kl.Flatten()(conv)), kl.Dense(3)(kl.Flatten()(conv))]),
        "lambda": keras.Model(images, kl.Dense(2)(kl.Flatten()(kl.Lambda(lambda x: x * 2)(conv)))),
        "layer_norm": keras.Model(images, kl.Dense(2)(kl.Flatten()(kl.LayerNormalization()(conv)))),
        "prelu": keras.Model(images, kl.Dense(2)(kl.Flatten()(kl.PReLU()(conv)))),
    }


def main() -> None:
    """Writes them all."""
    folder = pathlib.Path(sys.argv[1])
    keras.utils.set_random_seed(7)
    rng = np.random.default_rng(3)
    for build in (sequential, functional, convolutional):
        model = build()
        for layer in model.layers:
            for part in getattr(layer, "layers", [layer]):
                if isinstance(part, kl.BatchNormalization):  # statistics of a net that was trained
                    part.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in part.get_weights()])
                if isinstance(part, kl.PReLU):
                    part.set_weights([rng.uniform(-0.5, 0.5, w.shape) for w in part.get_weights()])
        name = build.__name__
        images = rng.integers(0, 256, (4, *model.input_shape[1:]), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", images=images, outputs=model.predict(images.astype("float32"), verbose=0))
        model.save(folder / f"{name}.keras")
        model.save(folder / f"{name}.h5")
        model.save_weights(folder / f"{name}.weights.h5")
        (folder / f"{name}.json").write_text(model.to_json())
    for name, model in refused().items():
        model.save(folder / f"{name}.keras")


if __name__ == "__main__":
    main()
