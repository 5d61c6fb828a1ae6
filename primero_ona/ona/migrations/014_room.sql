-- each load writes the open entries of its quarter again: with room in its page an entry stays there, and in the indexes
ALTER TABLE primero_sync.quarantine SET (fillfactor = 50);

-- A period is looked for by its first day.
DROP INDEX IF EXISTS primero_sync.indicator_history_period_idx;
CREATE INDEX IF NOT EXISTS indicator_history_start_idx ON primero_sync.indicator_history (period_start);
