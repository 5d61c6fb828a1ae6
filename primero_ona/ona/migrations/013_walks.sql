-- how the pull of each load walked its quarter: whole, or its changes since when; how many cases came and were carried over
ALTER TABLE primero_sync.runs ADD COLUMN IF NOT EXISTS walk jsonb;
