//! The programs and the origins, started once: everything lives on loopback in this process.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use causeway_connector::app::Settings;
use causeway_edge::config::{Config, Listen};
use causeway_edge::route::Pattern;
use causeway_edge::store::{NewKey, Store};
use causeway_tunnel::{EdgeIdentity, KeyId, Token, TunnelId, TunnelKey};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::entrance::Entrance;
use crate::origin::Origins;
use crate::victim::Victim;

pub const H1_HOST: &str = "h1.pair.test";
pub const H2_HOST: &str = "h2.pair.test";

pub struct Rig {
    pub origins: Origins,
    /// Of the origin over HTTP/1.1, and of the one over HTTP/2.
    pub victims: (RefCell<Victim>, RefCell<Victim>),
    pub entrance: Entrance,
    _edge: causeway_edge::app::App,
    _connector: causeway_connector::app::App,
    _folder: tempfile::TempDir,
    _pipe: Signal,
}

/// Runs `case` on the one rig of this thread.
pub fn with(case: impl FnOnce(&Runtime, &Rig)) {
    thread_local! {
        static RIG: RefCell<Option<(Runtime, Rig)>> = const { RefCell::new(None) };
    }
    RIG.with_borrow_mut(|rig| {
        let (runtime, rig) = rig.get_or_insert_with(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let rig = runtime.block_on(Rig::start());
            (runtime, rig)
        });
        case(runtime, rig);
    });
}

impl Rig {
    async fn start() -> Self {
        // Rust's own main ignores it, libFuzzer's does not: a peer that is gone would end the process.
        let pipe = signal(SignalKind::pipe()).expect("a handler");
        let folder = tempfile::tempdir().expect("a folder");
        let any = || SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = Config {
            data: folder.path().to_owned(),
            listen: Listen { https: vec![any()], http: Vec::new(), tunnel: vec![any()] },
            admin: any(),
            dev: true,
            ..Config::default()
        };
        config.access_log.enabled = false;
        let token = tunnel(&config).await;
        let edge = causeway_edge::app::App::start(config, None).await.expect("the edge starts");
        let listening = edge.listening();
        let origins = Origins::start().await;
        let rules = format!(
            "ingress:\n  - {{ hostname: {H1_HOST}, service: 'http://{}' }}\n  - {{ hostname: {H2_HOST}, service: 'h2c://{}' }}\n  - service: http_status:404\n",
            origins.h1, origins.h2
        );
        let settings = Settings {
            config: causeway_connector::config::parse("pair.yml", &rules).expect("the rules are right"),
            file: None,
            edges: vec![listening.tunnel[0].to_string()],
            token,
            metrics: Some(any()),
            shards: None,
            control: None,
            levels: None,
            visits: Default::default(),
            within: None,
        };
        let connector = causeway_connector::app::App::start(settings).await.expect("the connector starts");
        while !connector.ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let victims = (RefCell::new(Victim::new(H1_HOST)), RefCell::new(Victim::new(H2_HOST)));
        Self {
            origins,
            victims,
            entrance: Entrance::new(listening.https[0], folder.path()),
            _edge: edge,
            _connector: connector,
            _folder: folder,
            _pipe: pipe,
        }
    }
}

async fn tunnel(config: &Config) -> Token {
    let store = Store::open(config).await.expect("a store");
    let pin = EdgeIdentity::load_or_create(&config.data).expect("an identity").pin();
    let token = Token {
        tunnel: TunnelId::random(),
        key_id: KeyId::random(),
        key: TunnelKey::generate(),
        edges: Vec::new(),
        pin,
    };
    let patterns = [Pattern::parse("*.pair.test").expect("a pattern")];
    let key = NewKey { id: token.key_id, public_key: token.key.public() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    store.create(token.tunnel, "pair", &patterns, key, "fuzz", now).await.expect("a tunnel");
    store.close().await;
    token
}
