"""Pictures of photos, groups and verdicts."""
