"""Tensor programs, each beside its plain reference."""
