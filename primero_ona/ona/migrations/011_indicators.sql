-- the indicators' figures: which variant the views show, when, by which definitions and of how many rows they were computed, and what was revised
CREATE TABLE IF NOT EXISTS primero_sync.indicators (
    indicator   text PRIMARY KEY,
    variant     text NOT NULL,
    definition  text NOT NULL,
    seen        text NOT NULL,
    computed_at timestamptz NOT NULL
);

-- Figures of closed periods that became another; `old` or `new` is 0 where there was, or is, no row.
CREATE TABLE IF NOT EXISTS primero_sync.indicator_history (
    indicator    text NOT NULL,
    variant      text NOT NULL,
    period       text NOT NULL,
    period_start date NOT NULL,
    dimension    text NOT NULL,
    value        text NOT NULL,
    old          integer NOT NULL,
    new          integer NOT NULL,
    changed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_id       text NOT NULL,
    reason       text NOT NULL
);
CREATE INDEX IF NOT EXISTS indicator_history_period_idx
    ON primero_sync.indicator_history (indicator, variant, period, period_start);
ALTER TABLE primero_sync.indicator_history REPLICA IDENTITY FULL;
