"""What a run leaves on disk: its config, its checkpoints, its logs."""
