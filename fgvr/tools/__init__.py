"""The commands beside those of a run: a plain function with typed arguments each."""
