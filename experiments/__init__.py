"""What is done with trained nets: one command each. The logic is in `cnn`; nothing in `cnn` imports from here."""
