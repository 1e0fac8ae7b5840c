"""Where verdicts are kept, so that each pair is judged once."""
