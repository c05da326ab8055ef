"""Commands that train, evaluate and compare nets. Their logic is in `cnn`, which imports nothing from here."""
