"""A process beside each process of a run: it sees from outside that one hangs or has vanished, and ends them all."""
