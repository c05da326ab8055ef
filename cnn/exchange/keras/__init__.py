"""Files of Keras in, without Keras."""
