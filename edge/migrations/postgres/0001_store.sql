-- What the SQLite store has in its first two migrations; those files say what each table is for. Names are compared and sorted by
-- their bytes, as SQLite does, whatever the locale of the database.

CREATE TABLE state (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    revision BIGINT NOT NULL
);
INSERT INTO state (one, revision) VALUES (1, 1);

CREATE TABLE tunnels (
    id TEXT PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT,
    last_seen_at BIGINT
);
CREATE UNIQUE INDEX tunnels_name ON tunnels (name) WHERE revoked_at IS NULL;

CREATE TABLE hostnames (
    pattern TEXT COLLATE "C" PRIMARY KEY,
    tunnel_id TEXT NOT NULL REFERENCES tunnels (id)
);
CREATE INDEX hostnames_tunnel ON hostnames (tunnel_id);

CREATE TABLE tunnel_keys (
    id TEXT PRIMARY KEY,
    tunnel_id TEXT NOT NULL REFERENCES tunnels (id),
    public_key TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    not_after BIGINT
);
CREATE INDEX tunnel_keys_tunnel ON tunnel_keys (tunnel_id);

CREATE TABLE audit (
    id TEXT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    tunnel TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_at ON audit (at);

CREATE TABLE acme_accounts (
    directory TEXT COLLATE "C" PRIMARY KEY,
    credentials TEXT NOT NULL
);

CREATE TABLE certificates (
    name TEXT COLLATE "C" PRIMARY KEY,
    directory TEXT NOT NULL,
    chain TEXT NOT NULL,
    private_key TEXT NOT NULL,
    issued_at BIGINT NOT NULL
);

CREATE TABLE orders (
    name TEXT COLLATE "C" PRIMARY KEY,
    added BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    next_try BIGINT,
    last_error TEXT
);
