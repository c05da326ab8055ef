"""Array functions under the layers: convolutions, pools, padding, normalisation, and the CPU algorithms among them."""
