"""Judges behind a server: what is asked, how patiently, and how far its verdicts are trusted."""
