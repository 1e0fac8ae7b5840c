"""Settings: which there are and what each means, which are taken from another run, which cannot be kept to."""
