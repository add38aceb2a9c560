"""Episodes on disk, which demonstration may be shown, and batches for training."""
