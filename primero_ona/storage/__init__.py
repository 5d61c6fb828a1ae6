"""Encrypted partitions between the steps, and the frames that pass through them. Knows none of the systems."""
