//! The statements, each valid on SQLite and on PostgreSQL: an implementation binds them and reads their rows.

/// Takes the write lock, so that checks made after it in the same transaction stay true until it commits.
pub(super) const CHANGE: &str = "UPDATE state SET revision = revision + 1 WHERE one = 1";
pub(super) const REVISION: &str = "SELECT revision FROM state WHERE one = 1";

pub(super) const TUNNELS: &str =
    "SELECT id, name, created_at, revoked_at, last_seen_at FROM tunnels ORDER BY name, created_at";
pub(super) const HOSTNAMES: &str = "SELECT tunnel_id, pattern FROM hostnames ORDER BY pattern";
pub(super) const KEYS: &str =
    "SELECT tunnel_id, id, public_key, created_at, not_after FROM tunnel_keys ORDER BY created_at, id";

/// The tunnel that bears a name now.
pub(super) const ACTIVE: &str = "SELECT id FROM tunnels WHERE name = $1 AND revoked_at IS NULL";
/// Who was granted a pattern.
pub(super) const OWNER: &str =
    "SELECT t.name FROM hostnames h JOIN tunnels t ON t.id = h.tunnel_id WHERE h.pattern = $1";

pub(super) const ADD_TUNNEL: &str = "INSERT INTO tunnels (id, name, created_at) VALUES ($1, $2, $3)";
pub(super) const GRANT: &str = "INSERT INTO hostnames (pattern, tunnel_id) VALUES ($1, $2)";
pub(super) const ADD_KEY: &str =
    "INSERT INTO tunnel_keys (id, tunnel_id, public_key, created_at) VALUES ($1, $2, $3, $4)";
/// Never lengthens an older key's life.
pub(super) const RETIRE_KEYS: &str =
    "UPDATE tunnel_keys SET not_after = $1 WHERE tunnel_id = $2 AND (not_after IS NULL OR not_after > $1)";
pub(super) const FREE_HOSTNAMES: &str = "DELETE FROM hostnames WHERE tunnel_id = $1";
pub(super) const REVOKE: &str = "UPDATE tunnels SET revoked_at = $1 WHERE id = $2";
pub(super) const SEEN: &str = "UPDATE tunnels SET last_seen_at = $1 WHERE id = $2";

pub(super) const NOTE: &str =
    "INSERT INTO audit (id, at, actor, action, tunnel, detail) VALUES ($1, $2, $3, $4, $5, $6)";
pub(super) const AUDIT_LOG: &str =
    "SELECT at, actor, action, tunnel, detail FROM audit ORDER BY at DESC, id LIMIT $1";

/// The first edge's stays.
pub(super) const JOIN_FLEET: &str =
    "INSERT INTO fleet (one, pin) VALUES (1, $1) ON CONFLICT (one) DO NOTHING";
pub(super) const FLEET_PIN: &str = "SELECT pin FROM fleet WHERE one = 1";

pub(super) const ACCOUNTS: &str = "SELECT directory, credentials FROM acme_accounts ORDER BY directory";
pub(super) const PUT_ACCOUNT: &str = "INSERT INTO acme_accounts (directory, credentials) VALUES ($1, $2) \
     ON CONFLICT (directory) DO UPDATE SET credentials = excluded.credentials";
pub(super) const CERTIFICATES: &str =
    "SELECT name, directory, chain, private_key, issued_at FROM certificates ORDER BY name";
pub(super) const PUT_CERTIFICATE: &str = "INSERT INTO certificates (name, directory, chain, private_key, issued_at) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (name) DO UPDATE SET directory = excluded.directory, chain = excluded.chain, \
     private_key = excluded.private_key, issued_at = excluded.issued_at";
pub(super) const REMOVE_CERTIFICATE: &str = "DELETE FROM certificates WHERE name = $1";
pub(super) const ORDERS: &str =
    "SELECT name, added, failures, next_try, last_error FROM orders ORDER BY name";
pub(super) const PUT_ORDER: &str = "INSERT INTO orders (name, added, failures, next_try, last_error) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (name) DO UPDATE SET added = excluded.added, failures = excluded.failures, \
     next_try = excluded.next_try, last_error = excluded.last_error";
pub(super) const REMOVE_ORDER: &str = "DELETE FROM orders WHERE name = $1";

/// With every change of accounts, certificates and orders.
pub(super) const CHANGE_CERTIFICATES: &str = "UPDATE state SET certificates = certificates + 1 WHERE one = 1";
pub(super) const CERTIFICATES_REVISION: &str = "SELECT certificates FROM state WHERE one = 1";

/// Does nothing where another holds it: the time is that of `$4`.
pub(super) const CLAIM: &str = "INSERT INTO claims (name, holder, locked_until) VALUES ($1, $2, $3) \
     ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, locked_until = excluded.locked_until \
     WHERE claims.holder = excluded.holder OR claims.locked_until <= $4";
pub(super) const RELEASE: &str = "DELETE FROM claims WHERE name = $1 AND holder = $2";
pub(super) const POST: &str = "UPDATE claims SET token = $1, answer = $2 WHERE name = $3 AND holder = $4";
pub(super) const POSTED: &str =
    "SELECT name, token, answer FROM claims WHERE answer IS NOT NULL AND holder <> $1 AND locked_until > $2";

/// Nothing that is there is replaced: what clashes fails.
pub(super) const IMPORT_TUNNEL: &str =
    "INSERT INTO tunnels (id, name, created_at, revoked_at, last_seen_at) VALUES ($1, $2, $3, $4, $5)";
pub(super) const IMPORT_KEY: &str =
    "INSERT INTO tunnel_keys (id, tunnel_id, public_key, created_at, not_after) VALUES ($1, $2, $3, $4, $5)";
pub(super) const IMPORT_ACCOUNT: &str = "INSERT INTO acme_accounts (directory, credentials) VALUES ($1, $2)";
pub(super) const IMPORT_CERTIFICATE: &str =
    "INSERT INTO certificates (name, directory, chain, private_key, issued_at) VALUES ($1, $2, $3, $4, $5)";
pub(super) const IMPORT_ORDER: &str =
    "INSERT INTO orders (name, added, failures, next_try, last_error) VALUES ($1, $2, $3, $4, $5)";
pub(super) const AUDIT: &str = "SELECT id, at, actor, action, tunnel, detail FROM audit ORDER BY at, id";
