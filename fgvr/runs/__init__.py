"""What a run's folder holds, what it is made of, and where it goes on from."""
