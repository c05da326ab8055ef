"""Configs of runs, one file each: `get_config()` changes a few fields of `configs.default`."""
