"""The mapping from Primero's cases to ONA's rows: pure functions from frame to frame, without input or output."""
