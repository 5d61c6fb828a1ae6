-- cases that were erased on request: an audit line each, by a hash of Primero's id, and no way back into ONA
CREATE TABLE IF NOT EXISTS primero_sync.erasures (
    subject     text PRIMARY KEY,
    erased_at   timestamptz NOT NULL,
    cases       integer NOT NULL,
    services    integer NOT NULL,
    bookkeeping integer NOT NULL,
    stored_rows integer NOT NULL DEFAULT 0
);
