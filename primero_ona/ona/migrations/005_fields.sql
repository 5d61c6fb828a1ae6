-- fields of cases that Primero has shown, and those whose loss an operator has accepted
CREATE TABLE IF NOT EXISTS primero_sync.fields (
    name        text PRIMARY KEY,
    first_seen  timestamptz NOT NULL,
    last_seen   timestamptz NOT NULL,
    accepted_at timestamptz
);
