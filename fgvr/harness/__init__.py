"""Our questions and our judge in other people's test benches."""
