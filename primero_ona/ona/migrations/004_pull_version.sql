-- of which pull version a load was, so that quarters loaded under an older one are known
ALTER TABLE primero_sync.runs ADD COLUMN IF NOT EXISTS pull_version text;
