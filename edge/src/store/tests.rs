use causeway_tunnel::{KeyId, TunnelId};

use super::*;
use crate::route::Pattern;

fn patterns(names: &[&str]) -> Vec<Pattern> {
    names.iter().map(|name| Pattern::parse(name).unwrap()).collect()
}

fn key(fill: u8) -> NewKey {
    NewKey { id: KeyId::random(), public_key: [fill; 32] }
}

async fn created(store: &Store, name: &str, names: &[&str]) -> Result<TunnelId, StoreError> {
    let id = TunnelId::random();
    store.create(id, name, &patterns(names), key(1), "test", 100).await.map(|()| id)
}

#[tokio::test]
async fn a_tunnel_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let id = created(&store, "home", &["*.B.example", "a.example"]).await.unwrap();
    store.seen(id, 150).await.unwrap();
    store.close().await;
    let store = Store::open(folder.path()).await.unwrap();
    let home = store.tunnel("home").await.unwrap();
    assert_eq!((home.id, home.created_at, home.revoked_at, home.last_seen_at), (id, 100, None, Some(150)));
    assert_eq!(home.hostnames, patterns(&["*.b.example", "a.example"]));
    assert_eq!(home.keys[0].public_key, [1; 32]);
}

#[tokio::test]
async fn two_tunnels_are_never_granted_the_same_pattern() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    created(&store, "one", &["*.example.net", "x.example.org"]).await.unwrap();
    let before = store.revision().await.unwrap();
    let error = created(&store, "two", &["free.example.net", "X.example.ORG."]).await.unwrap_err();
    assert!(matches!(&error, StoreError::HostnameTaken { owner, .. } if owner == "one"), "{error}");
    assert!(matches!(store.tunnel("two").await, Err(StoreError::NoSuchTunnel(_))), "nothing is half created");
    assert_eq!(store.revision().await.unwrap(), before);
    created(&store, "two", &["free.example.net"]).await.unwrap();
    assert!(matches!(created(&store, "one", &["z.example"]).await, Err(StoreError::NameTaken(_))));
}

#[tokio::test]
async fn revoking_frees_the_name_and_the_hostnames_and_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    created(&store, "home", &["a.example"]).await.unwrap();
    let before = store.revision().await.unwrap();
    store.revoke("home", "test", 200).await.unwrap();
    assert!(store.revision().await.unwrap() > before, "a running edge hears of it");
    let gone = store.tunnel("home").await.unwrap();
    assert_eq!((gone.revoked_at, gone.hostnames.len(), gone.keys.len()), (Some(200), 0, 1));
    assert!(matches!(store.revoke("home", "test", 201).await, Err(StoreError::NoSuchTunnel(_))));
    created(&store, "home", &["a.example"]).await.unwrap();
    assert_eq!(store.tunnel("home").await.unwrap().revoked_at, None);
    assert_eq!(store.tunnels().await.unwrap().len(), 2);
    let actions: Vec<_> = store.audit_log(10).await.unwrap().into_iter().map(|e| e.action).collect();
    assert_eq!(actions[0], "revoke");
    assert_eq!(actions.len(), 3);
}

#[tokio::test]
async fn while_a_token_is_rotated_both_are_valid_until_the_overlap_ends() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    created(&store, "home", &["a.example"]).await.unwrap();
    store.rotate("home", key(2), Duration::from_secs(60), "test", 1000).await.unwrap();
    let valid = |keys: &[KeyRecord], now| {
        keys.iter().filter(|k| k.is_valid(now)).map(|k| k.public_key[0]).collect::<Vec<_>>()
    };
    let keys = store.tunnel("home").await.unwrap().keys;
    assert_eq!(valid(&keys, 1059), [1, 2]);
    assert_eq!(valid(&keys, 1060), [2]);
    // A later rotation never lengthens an older key's life.
    store.rotate("home", key(3), Duration::from_secs(600), "test", 1010).await.unwrap();
    let keys = store.tunnel("home").await.unwrap().keys;
    assert_eq!(valid(&keys, 1061), [2, 3]);
    assert!(matches!(
        store.rotate("nobody", key(4), Duration::ZERO, "test", 1).await,
        Err(StoreError::NoSuchTunnel(_))
    ));
}

#[tokio::test]
async fn hazard_167_a_corrupt_database_is_refused_with_its_mend_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let error = Store::open(folder.path()).await.unwrap_err();
    assert_eq!(error.database_fault(), Some(Fault::Corrupt), "{error:?}");
    assert!(error.to_string().contains("restore it from a backup"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 8192]);
}

#[tokio::test]
async fn hazard_167_a_damaged_page_is_found_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    for n in 0..40 {
        created(&store, &format!("t{n}"), &[&format!("n{n}.example")]).await.unwrap();
    }
    store.close().await;
    let path = folder.path().join(FILE_NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    for page in bytes.chunks_mut(4096).skip(1) {
        page[..64].fill(0xff);
    }
    std::fs::write(&path, bytes).unwrap();
    let error = Store::open(folder.path()).await.unwrap_err();
    assert_eq!(error.database_fault(), Some(Fault::Corrupt), "{error:?}");
}

#[tokio::test]
async fn hazard_166_a_full_disk_is_named_and_nothing_is_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Arc::new(Sqlite::open(folder.path()).await.unwrap());
    let store = Store { database: Arc::clone(&sqlite) as Arc<dyn Database> };
    created(&store, "before", &["before.example"]).await.unwrap();
    // SQLite's own quota gives the same answer as a full disk.
    let (pages,): (i64,) = sqlx::query_as("PRAGMA page_count").fetch_one(&sqlite.pool).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")))
        .execute(&sqlite.pool)
        .await
        .unwrap();
    let names: Vec<String> =
        (0..400).map(|n| format!("{n}.a-rather-long-name-that-fills-pages.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let error = created(&store, "big", &names).await.unwrap_err();
    assert_eq!(error.database_fault(), Some(Fault::Full), "{error:?}");
    assert!(error.to_string().contains("disk is full"), "{error}");
    assert_eq!(store.tunnels().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let error = Store::open(Path::new("/nonexistent/folder")).await.unwrap_err();
    assert_eq!(error.database_fault(), Some(Fault::CannotOpen), "{error:?}");
    assert!(error.to_string().contains("--data"), "{error}");
}

#[tokio::test]
async fn names_that_would_confuse_a_shell_or_a_log_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    for bad in ["", "-x", "a b", "a\nb", "../x", &"a".repeat(64)] {
        assert!(matches!(created(&store, bad, &["a.example"]).await, Err(StoreError::BadName(_))), "{bad}");
    }
    assert!(matches!(created(&store, "none", &[]).await, Err(StoreError::NoHostname)));
}

#[tokio::test]
async fn hazard_133_certificates_survive_a_restart_and_are_forgotten_when_they_are_removed() {
    use causeway_acme::{Certificate, NameRecord, Storage};
    use causeway_daemon::config::Secret;

    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let certificate = |at| {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let key = Secret::new(made.signing_key.serialize_pem());
        Certificate::new("a.example", "https://ca.example/", made.cert.pem(), key, at).unwrap()
    };
    let record = NameRecord {
        name: "a.example".to_owned(),
        is_added: true,
        failures: 3,
        next_try: Some(7),
        last_error: Some("gone".to_owned()),
    };
    store.put_account("https://ca.example/", &Secret::new("first")).await.unwrap();
    store.put_account("https://ca.example/", &Secret::new("second")).await.unwrap();
    store.put_certificate(&certificate(1)).await.unwrap();
    let latest = certificate(2);
    store.put_certificate(&latest).await.unwrap();
    store.put_name(&NameRecord::default()).await.unwrap();
    store.put_name(&record).await.unwrap();
    let mode = std::fs::metadata(folder.path().join(FILE_NAME)).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    store.close().await;

    let store = Store::open(folder.path()).await.unwrap();
    let kept = store.load().await.unwrap();
    assert_eq!(kept.accounts, [("https://ca.example/".to_owned(), Secret::new("second"))]);
    assert_eq!(kept.certificates, [latest]);
    assert_eq!(kept.names, [NameRecord::default(), record]);
    store.remove("a.example").await.unwrap();
    let kept = store.load().await.unwrap();
    assert!(kept.certificates.is_empty() && kept.names == [NameRecord::default()]);
}
