"""How far each choice of a closed-world protocol moves its figure: questions, replies, tables, controls, baselines."""
