"""The format of checkpoints: whole or not there, and whose damage is noticed."""
