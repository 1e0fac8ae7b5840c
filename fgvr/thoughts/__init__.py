"""Reasoning written by a teacher who is told the label: Fine-R1's first stage (arXiv 2602.07605, section 3.2)."""
