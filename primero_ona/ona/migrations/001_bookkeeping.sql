-- the sync's own tables: runs, quarantine, unmapped codes, exits
CREATE TABLE IF NOT EXISTS primero_sync.schema_version (
    version    integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- One row per load that was committed. `counts` holds, per table, the counts of the load.
CREATE TABLE IF NOT EXISTS primero_sync.runs (
    run_id          text NOT NULL,
    quarter         text NOT NULL,
    started_at      timestamptz NOT NULL,
    finished_at     timestamptz NOT NULL,
    mapping_version text,
    counts          jsonb NOT NULL,
    PRIMARY KEY (run_id, quarter)
);
CREATE INDEX IF NOT EXISTS runs_quarter_finished_at_idx ON primero_sync.runs (quarter, finished_at DESC);

-- Quarantined rows, by Primero's ids only. `entries` counts those that are alike (services of one case).
CREATE TABLE IF NOT EXISTS primero_sync.quarantine (
    quarter     text NOT NULL,
    table_name  text NOT NULL,
    primero_id  text NOT NULL,
    other_id    text,
    reason      text NOT NULL,
    entries     integer NOT NULL,
    run_id      text NOT NULL,
    first_seen  timestamptz NOT NULL,
    last_seen   timestamptz NOT NULL,
    resolved_at timestamptz
);
CREATE UNIQUE INDEX IF NOT EXISTS quarantine_entry_key
    ON primero_sync.quarantine (primero_id, quarter, table_name, reason, (COALESCE(other_id, '')));

-- Codes that no label table knows, as the last sync of each quarter found them; a null code may not be shown.
CREATE TABLE IF NOT EXISTS primero_sync.unmapped (
    quarter text NOT NULL,
    field   text NOT NULL,
    code    text,
    count   bigint NOT NULL,
    run_id  text NOT NULL
);
CREATE INDEX IF NOT EXISTS unmapped_quarter_idx ON primero_sync.unmapped (quarter);

-- Cases that no longer belong, and since when: older data cannot bring them back.
CREATE TABLE IF NOT EXISTS primero_sync.exits (
    primero_id      uuid PRIMARY KEY,
    case_id         text,
    last_updated_at timestamptz NOT NULL
);
