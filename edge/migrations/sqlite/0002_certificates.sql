-- Valid on SQLite and on PostgreSQL. Certificates that the edge orders by itself, with their keys: from here on the store
-- holds secrets.

-- One account at each authority: its key, and what the authority calls it.
CREATE TABLE acme_accounts (
    directory TEXT PRIMARY KEY,
    credentials TEXT NOT NULL
);

CREATE TABLE certificates (
    name TEXT PRIMARY KEY,
    directory TEXT NOT NULL,
    chain TEXT NOT NULL,
    private_key TEXT NOT NULL,
    issued_at BIGINT NOT NULL
);

-- How the orders for a name fare: a restart must not ask an authority more often than it allows.
CREATE TABLE orders (
    name TEXT PRIMARY KEY,
    added BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    next_try BIGINT,
    last_error TEXT
);
