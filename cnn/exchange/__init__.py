"""Nets from elsewhere and for elsewhere: files of other frameworks are read, and trained nets are written for them."""

from cnn.exchange.classifier import Classifier, ExchangeError
from cnn.exchange.doors import load, save
from cnn.exchange.reading import read

__all__ = ["Classifier", "ExchangeError", "load", "read", "save"]
