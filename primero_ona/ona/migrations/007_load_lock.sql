-- the lock of the loads, which only a login that may write the bookkeeping can take; and history that is only ever appended
CREATE TABLE IF NOT EXISTS primero_sync.load_lock ();

-- A run that loads a quarter again adds a row, so that the loader needs no right to change older ones.
ALTER TABLE primero_sync.runs DROP CONSTRAINT IF EXISTS runs_pkey;
ALTER TABLE primero_sync.runs ALTER COLUMN finished_at SET DEFAULT clock_timestamp();
