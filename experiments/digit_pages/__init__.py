"""Pages with digits at known places, the crops of them that a net is trained on, and what its detections score."""
