"""WebDataset shards: packed once, read exactly."""
