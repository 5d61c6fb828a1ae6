-- what was published of the indicators' figures, as it was: later editions must not give away what these left unsaid
CREATE TABLE IF NOT EXISTS primero_sync.published_figures (
    period       text NOT NULL,
    period_start date NOT NULL,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_id       text NOT NULL,
    tables       jsonb NOT NULL,
    PRIMARY KEY (period, period_start, published_at)
);
