"""The mapping from Primero's cases to ONA's rows: pure functions from frame to frame, and their tables. No input, no output."""
