"""Pages with pasted digits at known places: the pages, the crops that a net is trained on, and what detections score."""
