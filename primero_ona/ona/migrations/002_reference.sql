-- names of places that Primero has changed since, until somebody accepts them
CREATE TABLE IF NOT EXISTS primero_sync.place_names (
    code        text NOT NULL,
    column_name text NOT NULL,
    in_use      text,
    primeros    text NOT NULL,
    first_seen  timestamptz NOT NULL,
    resolved_at timestamptz,
    accepted    boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX IF NOT EXISTS place_names_open_key
    ON primero_sync.place_names (code, column_name) WHERE resolved_at IS NULL;
