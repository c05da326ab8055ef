"""Runs, one file each: `get_config()` overrides a few fields of `configs.default`."""
