"""Classic convolutional classifiers in JAX: train them, take them apart, and run them densely over larger images."""
