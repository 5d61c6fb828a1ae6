-- logins that Primero has refused, by a keyed hash, so that no process asks again: six failures lock the account
CREATE TABLE IF NOT EXISTS primero_sync.refused_logins (
    subject    text PRIMARY KEY,
    refused_at timestamptz NOT NULL DEFAULT now()
);
