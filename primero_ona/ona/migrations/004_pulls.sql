-- of each load the number of its pull, by which a later one is known, and the version of the pull
CREATE SEQUENCE IF NOT EXISTS primero_sync.pulls;
ALTER TABLE primero_sync.runs ADD COLUMN IF NOT EXISTS pull bigint;
ALTER TABLE primero_sync.runs ADD COLUMN IF NOT EXISTS pull_version text;
