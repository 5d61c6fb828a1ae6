-- how many of Primero's cases the account saw at the last pull, and that an operator has accepted that they are fewer
CREATE TABLE IF NOT EXISTS primero_sync.visible_cases (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    cases       bigint NOT NULL,
    seen_at     timestamptz NOT NULL,
    accepted_at timestamptz
);
