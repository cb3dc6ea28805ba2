#[path = "../../../tests/src/postgres.rs"]
#[expect(unreachable_pub, reason = "the harness of the end-to-end tests has the same file, and shows it")]
mod server;

use causeway_tunnel::{KeyId, TunnelId};

use self::server::Postgres;
use super::*;
use crate::config::Backend;
use crate::route::Pattern;

/// Where a store can be.
struct Home {
    folder: tempfile::TempDir,
    server: Option<Postgres>,
}

impl Home {
    /// One of each kind, as far as they are installed.
    fn all() -> impl Iterator<Item = Self> {
        let home = |server| Self { folder: tempfile::tempdir().unwrap(), server };
        [Some(home(None)), Postgres::start().map(|server| home(Some(server)))].into_iter().flatten()
    }

    fn config(&self) -> Config {
        let store = self.server.as_ref().map_or(Backend::Sqlite, |server| server.url().parse().unwrap());
        Config { data: self.folder.path().to_owned(), store, ..Config::default() }
    }

    async fn open(&self) -> Store {
        Store::open(&self.config()).await.unwrap()
    }
}

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
    for home in Home::all() {
        let store = home.open().await;
        let id = created(&store, "home", &["*.B.example", "a.example"]).await.unwrap();
        store.seen(id, 150).await.unwrap();
        store.close().await;
        let store = home.open().await;
        let home = store.tunnel("home").await.unwrap();
        assert_eq!(
            (home.id, home.created_at, home.revoked_at, home.last_seen_at),
            (id, 100, None, Some(150))
        );
        assert_eq!(home.hostnames, patterns(&["*.b.example", "a.example"]));
        assert_eq!(home.keys[0].public_key, [1; 32]);
    }
}

#[tokio::test]
async fn two_tunnels_are_never_granted_the_same_pattern() {
    for home in Home::all() {
        let store = home.open().await;
        created(&store, "one", &["*.example.net", "x.example.org"]).await.unwrap();
        let before = store.revision().await.unwrap();
        let error = created(&store, "two", &["free.example.net", "X.example.ORG."]).await.unwrap_err();
        assert!(matches!(&error, StoreError::HostnameTaken { owner, .. } if owner == "one"), "{error}");
        assert!(
            matches!(store.tunnel("two").await, Err(StoreError::NoSuchTunnel(_))),
            "nothing is half created"
        );
        assert_eq!(store.revision().await.unwrap(), before);
        created(&store, "two", &["free.example.net"]).await.unwrap();
        assert!(matches!(created(&store, "one", &["z.example"]).await, Err(StoreError::NameTaken(_))));
    }
}

#[tokio::test]
async fn revoking_frees_the_name_and_the_hostnames_and_is_remembered() {
    for home in Home::all() {
        let store = home.open().await;
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
}

#[tokio::test]
async fn while_a_token_is_rotated_both_are_valid_until_the_overlap_ends() {
    for home in Home::all() {
        let store = home.open().await;
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
}

#[tokio::test]
async fn hazard_167_a_corrupt_database_is_refused_with_its_mend_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let error = Store::in_folder(folder.path()).await.unwrap_err();
    assert_eq!(error.database_fault(), Some(Fault::Corrupt), "{error:?}");
    assert!(error.to_string().contains("restore it from a backup"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 8192]);
}

#[tokio::test]
async fn hazard_167_a_damaged_page_is_found_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path()).await.unwrap();
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
    let error = Store::in_folder(folder.path()).await.unwrap_err();
    assert_eq!(error.database_fault(), Some(Fault::Corrupt), "{error:?}");
}

#[tokio::test]
async fn hazard_166_a_full_disk_is_named_and_nothing_is_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Arc::new(sqlite::open(folder.path()).await.unwrap());
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
    let error = Store::in_folder(Path::new("/nonexistent/folder")).await.unwrap_err();
    assert_eq!(error.database_fault(), Some(Fault::CannotOpen), "{error:?}");
    assert!(error.to_string().contains("--data"), "{error}");
}

#[tokio::test]
async fn names_that_would_confuse_a_shell_or_a_log_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path()).await.unwrap();
    for bad in ["", "-x", "a b", "a\nb", "../x", &"a".repeat(64)] {
        assert!(matches!(created(&store, bad, &["a.example"]).await, Err(StoreError::BadName(_))), "{bad}");
    }
    assert!(matches!(created(&store, "none", &[]).await, Err(StoreError::NoHostname)));
}

#[tokio::test]
async fn hazard_133_certificates_survive_a_restart_and_are_forgotten_when_they_are_removed() {
    use causeway_acme::{Certificate, NameRecord, Storage};
    use causeway_daemon::config::Secret;

    for home in Home::all() {
        let store = home.open().await;
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
        if home.server.is_none() {
            let mode = std::fs::metadata(home.folder.path().join(FILE_NAME)).unwrap().permissions();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
        }
        store.close().await;

        let store = home.open().await;
        let kept = store.load().await.unwrap();
        assert_eq!(kept.accounts, [("https://ca.example/".to_owned(), Secret::new("second"))]);
        assert_eq!(kept.certificates, [latest]);
        assert_eq!(kept.names, [NameRecord::default(), record]);
        store.remove("a.example").await.unwrap();
        let kept = store.load().await.unwrap();
        assert!(kept.certificates.is_empty() && kept.names == [NameRecord::default()]);
    }
}

#[tokio::test]
async fn several_edges_may_start_at_once_on_an_empty_database() {
    let Some(home) = Home::all().find(|home| home.server.is_some()) else { return };
    let config = home.config();
    let stores = futures_util::future::join_all((0..6).map(|_| Store::open(&config))).await;
    for (n, store) in stores.into_iter().enumerate() {
        created(&store.unwrap(), &format!("t{n}"), &[&format!("n{n}.example")]).await.unwrap();
    }
    assert_eq!(home.open().await.tunnels().await.unwrap().len(), 6);
}

#[tokio::test]
async fn of_two_edges_that_grant_the_same_name_at_once_one_is_told_who_has_it() {
    let Some(home) = Home::all().find(|home| home.server.is_some()) else { return };
    let (one, two) = (home.open().await, home.open().await);
    let (a, b) = tokio::join!(created(&one, "one", &["a.example"]), created(&two, "two", &["a.example"]));
    let error = [a, b].into_iter().find_map(Result::err).unwrap();
    assert!(matches!(&error, StoreError::HostnameTaken { .. }), "{error:?}");
    assert_eq!(one.tunnels().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_that_is_away_is_named_without_a_secret_and_found_again() {
    let Some(mut home) = Home::all().find(|home| home.server.is_some()) else { return };
    let store = home.open().await;
    home.server.as_mut().unwrap().close();
    let password = home.folder.path().join("password");
    std::fs::write(&password, "hunter2").unwrap();
    let config = Config { store_password_file: Some(password), ..home.config() };
    for error in [store.revision().await.unwrap_err(), Store::open(&config).await.unwrap_err()] {
        assert_eq!(error.database_fault(), Some(Fault::CannotOpen), "{error:?}");
        assert!(
            error.to_string().contains("the store postgres://causeway@localhost/postgres cannot be reached"),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    home.server.as_mut().unwrap().open();
    created(&store, "home", &["a.example"]).await.unwrap();
}

#[tokio::test]
async fn a_database_of_a_later_version_is_refused() {
    let Some(home) = Home::all().find(|home| home.server.is_some()) else { return };
    home.open().await.close().await;
    let later = "INSERT INTO _sqlx_migrations VALUES (999, 'later', now(), true, '', 0)";
    home.server.as_ref().unwrap().sql(later).unwrap();
    let error = Store::open(&home.config()).await.unwrap_err();
    assert_eq!(error.database_fault(), Some(Fault::Newer), "{error:?}");
}

#[tokio::test]
async fn of_several_edges_one_has_an_order_until_it_gives_it_back_or_is_gone() {
    use causeway_acme::{Posted, Shared};

    for home in Home::all() {
        let (one, two) = (home.open().await, home.open().await);
        let claim = |store: &Store, now| {
            let database = Arc::clone(&store.database);
            async move { database.claim("a.example", now, now + 10).await.unwrap() }
        };
        assert!(claim(&one, 100).await && !claim(&two, 109).await, "it is the first one's");
        assert!(claim(&one, 105).await && !claim(&two, 114).await, "who holds it on");
        assert!(claim(&two, 115).await && !claim(&one, 116).await, "and is gone");
        assert!(!one.database.post("a.example", None, "AA==").await.unwrap(), "what it says is void");
        one.release("a.example").await.unwrap();
        assert!(!claim(&one, 117).await, "nor can it give back what is another's");

        assert!(two.claim("a.example").await.unwrap());
        let answers = [
            Posted::Http { name: "a.example".into(), token: "t".into(), text: "t.thumb".into() },
            Posted::Tls { name: "a.example".into(), digest: vec![7; 32] },
        ];
        for answer in answers {
            assert!(two.post(&answer).await.unwrap());
            assert_eq!(one.posted().await.unwrap(), [answer]);
            assert_eq!(two.posted().await.unwrap(), [], "its own it knows");
        }
        two.release("a.example").await.unwrap();
        assert_eq!(one.posted().await.unwrap(), []);
        assert!(one.claim("a.example").await.unwrap());
    }
}

#[tokio::test]
async fn all_of_a_store_goes_into_another_or_nothing() {
    use causeway_acme::{NameRecord, Storage};

    let pin = Pin([7; 32]);
    let mut from = Vec::new();
    for home in Home::all() {
        let store = home.open().await;
        created(&store, "gone", &["a.example"]).await.unwrap();
        store.revoke("gone", "test", 150).await.unwrap();
        created(&store, "home", &["a.example", "*.b.example"]).await.unwrap();
        store.rotate("home", key(2), Duration::from_secs(60), "test", 1000).await.unwrap();
        store.put_account("https://ca.example/", &Secret::new("account")).await.unwrap();
        store
            .put_name(&NameRecord { name: "a.example".into(), failures: 2, ..NameRecord::default() })
            .await
            .unwrap();
        from.push(store.export().await.unwrap());
        for other in Home::all() {
            let other = other.open().await;
            other.import(from.last().unwrap(), pin).await.unwrap();
            assert_eq!(other.tunnels().await.unwrap(), store.tunnels().await.unwrap());
            assert_eq!(other.audit_log(10).await.unwrap(), store.audit_log(10).await.unwrap());
            let (theirs, ours) = (other.load().await.unwrap(), store.load().await.unwrap());
            assert_eq!((theirs.accounts, theirs.names), (ours.accounts, ours.names));
        }
        let other = home.open().await;
        let before = other.tunnels().await.unwrap();
        let error = other.import(from.last().unwrap(), pin).await.unwrap_err();
        assert!(matches!(&error, StoreError::Clash(what) if what.contains("tunnel")), "{error:?}");
        assert_eq!(other.tunnels().await.unwrap(), before);
    }
}

#[tokio::test]
async fn what_clashes_with_a_tunnel_that_is_there_is_named_and_nothing_is_imported() {
    for home in Home::all() {
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Store::in_folder(elsewhere.path()).await.unwrap();
        created(&other, "free", &["free.example"]).await.unwrap();
        created(&other, "other", &["a.example"]).await.unwrap();
        let store = home.open().await;
        created(&store, "home", &["a.example"]).await.unwrap();
        let error = store.import(&other.export().await.unwrap(), Pin([7; 32])).await.unwrap_err();
        assert!(matches!(&error, StoreError::Clash(what) if what == "the hostname `a.example`"), "{error:?}");
        assert_eq!(store.tunnels().await.unwrap().len(), 1);
    }
}
