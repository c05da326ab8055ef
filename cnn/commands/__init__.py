"""What commands share, flags and help and one line for a mistake (`flags`, `program`), and the command `run`."""
