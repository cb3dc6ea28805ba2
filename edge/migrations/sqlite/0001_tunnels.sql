-- Valid on SQLite and on PostgreSQL. Times are Unix seconds; keys and ids are text, so that both store them alike.

-- One row: `revision` grows with every change that a running edge must hear of.
CREATE TABLE state (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    revision BIGINT NOT NULL
);
INSERT INTO state (one, revision) VALUES (1, 1);

CREATE TABLE tunnels (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT,
    last_seen_at BIGINT
);
-- The name of a revoked tunnel may be given again.
CREATE UNIQUE INDEX tunnels_name ON tunnels (name) WHERE revoked_at IS NULL;

-- The primary key is the promise that no two tunnels are granted the same pattern. Revoking deletes the rows.
CREATE TABLE hostnames (
    pattern TEXT PRIMARY KEY,
    tunnel_id TEXT NOT NULL REFERENCES tunnels (id)
);
CREATE INDEX hostnames_tunnel ON hostnames (tunnel_id);

-- Public halves only. While a token is rotated a tunnel has two keys that are valid.
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
