"""Nets from elsewhere and for elsewhere: files of other frameworks are read, and trained nets are written for them."""
