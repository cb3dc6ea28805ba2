//! What is said on the control stream.

use serde::{Deserialize, Serialize};

use crate::granted::Granted;
use crate::opening::Kind;
use crate::session::Role;
use crate::token::{ConnectorId, KeyId, TunnelId};

/// Everything that is said on the control stream. Unknown fields are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    Hello(Hello),
    Welcome(Welcome),
    Refused(Refused),
    /// Connector: the hostnames that its rules serve now. Replaces what it announced before.
    Announce {
        generation: u64,
        routes: Vec<Route>,
    },
    /// Edge: its answer to one Announce.
    Announced {
        generation: u64,
        accepted: Vec<u32>,
        refused: Vec<RefusedRoute>,
    },
    /// Either: open no new stream; what is in flight may finish.
    Drain {
        reason: String,
        /// Edge: the next process of it takes sessions already, at the same addresses; this one serves until it closes.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        succeeded: bool,
    },
    /// Either: has the other end's transport answer.
    Probe {
        /// Nothing has come from the other end for too long, which may hear all of this: a line that is dead in one direction.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unheard: bool,
    },
    /// Connector, every [`crate::limits::STATS_INTERVAL`].
    Stats(Stats),
    /// A message of a later version: to be ignored.
    #[serde(other)]
    Unknown,
}

/// The connector's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub lowest_version: u32,
    pub highest_version: u32,
    pub tunnel: TunnelId,
    pub key: KeyId,
    pub connector: ConnectorId,
    /// [`crate::proof::sign`].
    pub proof: String,
    pub role: Role,
    /// Name and version of the program.
    pub software: String,
    /// The machine's name, for people.
    #[serde(default)]
    pub host: String,
}

/// The edge's answer when it takes the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub version: u32,
    /// Sixteen hexadecimal digits.
    pub session: String,
    /// Which of the edge's shards has this session, from 0.
    pub shard: u32,
    /// How many shards the edge has: the connector keeps a session to each.
    pub shards: u32,
    /// The tunnel's name, for the connector's log.
    pub tunnel_name: String,
    pub software: String,
    #[serde(flatten)]
    pub granted: Granted,
}

/// The edge's answer when it does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub code: RefusalCode,
    /// For the connector's log: what is wrong and what mends it.
    pub reason: String,
    pub retry: Retry,
}

/// Whether trying again with the same token can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Not until somebody changes something.
    Permanent,
    Temporary,
}

/// Why a session was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// No such tunnel, or the key is not its: one answer for both, so that ids cannot be guessed (hazard 119).
    Unauthorized,
    Revoked,
    Expired,
    Version,
    Overloaded,
    Draining,
    Protocol,
    #[serde(other)]
    Other,
}

/// One hostname that a connector serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Chosen by the connector; comes back with each request.
    pub id: u32,
    /// A name in A-label form, `*.` and a name, or `*` alone: every name that the tunnel is granted.
    pub hostname: String,
    /// What it takes.
    #[serde(default, skip_serializing_if = "Kind::is_request")]
    pub kind: Kind,
    /// Where TLS ends for those who come in by it.
    #[serde(default, skip_serializing_if = "TlsEnd::is_edge")]
    pub tls: TlsEnd,
    /// What becomes of its visitors who come unencrypted.
    #[serde(default, skip_serializing_if = "PlainHttp::is_redirect")]
    pub http: PlainHttp,
    /// For how many seconds browsers are told to come encrypted only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<u32>,
    /// To be refused where another connector of the tunnel serves this very name already: it comes beside those that are
    /// there, and must not take from them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exclusive: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Route {
    /// Of requests, by TLS that ended at the edge or in the clear.
    pub fn of_requests(id: u32, hostname: impl Into<String>) -> Self {
        Self { id, hostname: hostname.into(), ..Self::default() }
    }
}

/// Where a visitor's TLS ends: told apart for people only, since beyond the edge it is the connector's affair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsEnd {
    #[default]
    Edge,
    /// At home, where the connector has certificates of its own.
    Connector,
    /// At the service; or where a later version knows: nobody on the way reads a byte.
    #[serde(other)]
    Passthrough,
}

impl TlsEnd {
    pub fn is_edge(&self) -> bool {
        *self == Self::Edge
    }

    /// A constant word for the file, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Connector => "connector",
            Self::Passthrough => "passthrough",
        }
    }
}

/// What an edge does with a request that came unencrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlainHttp {
    Serve,
    /// Sends it to the same address over TLS, where the name has it. Stands also for what a later version may say: who does
    /// not know better is to be safe.
    #[default]
    #[serde(other)]
    Redirect,
}

impl PlainHttp {
    fn is_redirect(&self) -> bool {
        *self == Self::Redirect
    }
}

/// A route that the edge does not serve for this tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRoute {
    pub id: u32,
    pub hostname: String,
    pub reason: String,
}

/// A connector's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    pub requests: u64,
    pub in_flight: u64,
    pub origin_errors: u64,
    pub generation: u64,
    /// Why the last change of its file was not taken, if so.
    pub config_error: Option<String>,
    pub uptime_seconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_172_unknown_fields_messages_and_codes_are_ignored() {
        let read = |json: &str| serde_json::from_str::<Message>(json).unwrap();
        assert_eq!(read(r#"{"type":"sing","song":"la"}"#), Message::Unknown);
        assert_eq!(
            read(r#"{"type":"drain","reason":"stop","colour":"red"}"#),
            Message::Drain { reason: "stop".to_owned(), succeeded: false }
        );
        let Message::Refused(refused) =
            read(r#"{"type":"refused","code":"moon","reason":"r","retry":"temporary"}"#)
        else {
            panic!("a refusal");
        };
        assert_eq!(refused.code, RefusalCode::Other);
    }

    #[test]
    fn an_edge_that_tells_no_grants_is_understood_and_one_that_does_too() {
        let read = |more: &str| {
            let text = format!(
                r#"{{"type":"welcome","version":3,"session":"1","shard":0,"shards":1,"tunnel_name":"home","software":"s"{more}}}"#
            );
            match serde_json::from_str::<Message>(&text).unwrap() {
                Message::Welcome(welcome) => {
                    assert_eq!(serde_json::to_string(&Message::Welcome(welcome.clone())).unwrap(), text);
                    welcome.granted
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(read(""), Granted::default());
        let told = Granted {
            hostnames: vec!["*.example.dev".to_owned()],
            https_port: Some(8443),
            ..Granted::default()
        };
        assert_eq!(read(r#","hostnames":["*.example.dev"],"https_port":8443"#), told);
    }

    #[test]
    fn where_tls_ends_is_said_only_where_it_is_not_the_edge() {
        let text = |route: &Route| serde_json::to_string(route).unwrap();
        assert_eq!(text(&Route::of_requests(1, "a.dev")), r#"{"id":1,"hostname":"a.dev"}"#);
        let passed =
            Route { kind: Kind::Connect, tls: TlsEnd::Passthrough, ..Route::of_requests(2, "b.dev") };
        let written = r#"{"id":2,"hostname":"b.dev","kind":"connect","tls":"passthrough"}"#;
        assert_eq!(text(&passed), written);
        assert_eq!(serde_json::from_str::<Route>(written).unwrap(), passed);
        for end in [TlsEnd::Edge, TlsEnd::Connector, TlsEnd::Passthrough] {
            assert_eq!(serde_json::to_string(&end).unwrap(), format!("\"{end}\"", end = end.as_str()));
        }
        assert_eq!(serde_json::from_str::<TlsEnd>(r#""moon""#).unwrap(), TlsEnd::Passthrough);
    }

    #[test]
    fn a_route_says_what_becomes_of_plain_http_and_an_older_connector_means_a_redirect() {
        let read = |json: &str| serde_json::from_str::<Route>(json).unwrap();
        let plain = Route { id: 1, hostname: "a.dev".to_owned(), ..Route::default() };
        assert_eq!(read(r#"{"id":1,"hostname":"a.dev"}"#), plain);
        assert_eq!(serde_json::to_string(&plain).unwrap(), r#"{"id":1,"hostname":"a.dev"}"#);
        assert_eq!(read(r#"{"id":1,"hostname":"a.dev","http":"sing"}"#).http, PlainHttp::Redirect);
        let own = Route { http: PlainHttp::Serve, hsts: Some(31_536_000), ..plain };
        assert_eq!(read(&serde_json::to_string(&own).unwrap()), own);
    }
}
