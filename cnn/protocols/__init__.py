"""Ways to classify an image larger than the window, and what each costs."""
