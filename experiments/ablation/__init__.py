"""Ablation studies: one factor of a run is changed, and seeds say whether the result can be told from chance."""
