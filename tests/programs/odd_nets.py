"""Nets of a user's own with a mistake each, in the net or in a layer."""

import jax.numpy as jnp

from cnn import nets
from cnn.layers import Activation, Conv, Dense, Flatten, Layer


class Double(Layer):
    """Doubles the channels, and does not say so."""

    mixes_pixels = False

    def __call__(self, x, *, train):
        return jnp.concatenate([x, x], axis=-1)


class WithoutTrain(Layer):
    """Does not take `train`."""

    mixes_pixels = False

    def __call__(self, x):
        return x


class WithoutCall(Layer):
    """Cannot be called."""

    mixes_pixels = False


class Failing(Layer):
    """Fails when it is called."""

    mixes_pixels = False

    def __call__(self, x, *, train):
        return x + missing  # noqa: F821  # pyright: ignore[reportUndefinedVariable]


class FailingInTraining(Layer):
    """Fails in training alone."""

    mixes_pixels = False

    def __call__(self, x, *, train):
        return x.reshape(7, 7) if train else x


class FailingShape(Layer):
    """Fails when it is asked for its shape."""

    mixes_pixels = False

    def output_shape(self, input_shape):
        return input_shape[7]


class ShapeOfOneNumber(Layer):
    """Says something that is no shape."""

    mixes_pixels = False

    def output_shape(self, input_shape):
        return 3

    def __call__(self, x, *, train):
        return x


def with_layer(layer, num_classes):
    """A small net with a layer in its middle."""
    return nets.net(Conv(4, 3), layer, Activation(), Flatten(), Dense(num_classes))


def double(num_classes):
    return with_layer(Double(), num_classes)


def without_train(num_classes):
    return with_layer(WithoutTrain(), num_classes)


def without_call(num_classes):
    return with_layer(WithoutCall(), num_classes)


def failing(num_classes):
    return with_layer(Failing(), num_classes)


def failing_in_training(num_classes):
    return with_layer(FailingInTraining(name="mine"), num_classes)


def failing_shape(num_classes):
    return with_layer(FailingShape(), num_classes)


def shape_of_one_number(num_classes):
    return with_layer(ShapeOfOneNumber(), num_classes)


def few_outputs(num_classes):
    return nets.net(Flatten(), Dense(3))


def more_outputs(num_classes):
    return nets.net(Flatten(), Dense(num_classes + 2))


def empty(num_classes):
    return nets.net()


def only_convolutions(num_classes):
    return nets.net(Conv(num_classes, 3), Activation())


def too_large_a_kernel(num_classes):
    return nets.net(Conv(4, 99), Flatten(), Dense(num_classes))
