"""Ablation studies: one factor of a run is changed, and several seeds say whether its effect is significant."""
