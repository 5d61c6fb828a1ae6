-- the number of each pull, by which a load knows whether ONA holds something that was asked of Primero later
CREATE SEQUENCE IF NOT EXISTS primero_sync.pulls;
ALTER TABLE primero_sync.runs ADD COLUMN IF NOT EXISTS pull bigint;
