"""Devices, the compiler, and the settings of a process; knows nothing of nets."""
