//! The tunnel: the protocol between connector and edge, version 3.
//!
//! # Three layers
//! [`carrier`] moves the bytes of streams and knows no frame; [`stream`] makes messages of them and knows no carrier;
//! [`opening`] is the first message of a stream, which says what it is for. Between the first two [`flow`] says how much may be sent. [`Session`] is what others hold; [`dial`] and
//! [`listen`] make one.
//!
//! # Roles and transport
//! The connector dials, the edge answers; what flows over the connection goes the other way: the edge opens a
//! stream for each public request. A **session** is one connection. Its carrier is QUIC, or HTTP/2 over TLS and TCP where UDP
//! does not pass ([`carrier::tcp`]); over both ALPN is `causeway/1`, TLS 1.3 only, never 0-RTT. Nothing above [`carrier`] knows which.
//!
//! # Trust
//! 1. The edge shows a self-signed certificate. The connector compares the SHA-256 of its SubjectPublicKeyInfo with
//!    the pin in its token and goes away when they differ: before a byte of ours is sent.
//! 2. The connector proves its tunnel's Ed25519 key by signing this very connection's TLS exporter ([`proof`]).
//!    The secret never crosses the wire, a signature is worth nothing on another connection, and the edge stores
//!    public keys only.
//!
//! # Control stream
//! The first bidirectional stream, opened by the connector; messages are `length: u32 big-endian`, then that many
//! bytes of JSON ([`message`]). Unknown fields and unknown message types are ignored.
//! ```text
//! connector                                    edge
//!   Hello {versions, tunnel, key, connector, proof, …} →
//!                                              ← Welcome {version, session, shard, shards, hostnames, https_port, …}
//!                                              | Refused {code, reason, retry}, then close
//!   Announce {generation, routes[id, hostname, kind, tls, http, hsts, exclusive]} →
//!                                              ← Announced {generation, accepted, refused[id, hostname, reason]}
//!   Stats {…} →   every 10 s
//!   Drain {reason} ↔   "give me / I give you no new streams"
//!                                              ← Drain {reason, succeeded}: the edge's next process takes sessions
//!   Probe {} ↔         while the other is silent
//! ```
//! # Silence
//! The connector keeps an idle session alive ([`limits::KEEP_ALIVE`], a standby more rarely); the edge only answers. Who hears
//! nothing for longer than that and a margin **suspects** the session: it gets nothing new where there is another, what is in
//! flight stays, and both ends probe it every [`limits::PROBE_INTERVAL`]. Heard again, it is as before. It is **given up** after
//! [`limits::IDLE_TIMEOUT`]; at once when the peer closes it or does not know it (a stateless reset: an edge derives the key of
//! those from its identity, so that it knows it after a restart); or when another session of the same connector and role is
//! up and the old one stays silent for [`limits::SUCCESSION`] all the same.
//! # Streams
//! Opened by the edge. The first frame says what for: REQUEST for one request, OPEN for any other kind, by its name. A
//! connector announces the kind of each route (`request` goes without saying) and the edge refuses routes
//! of kinds that it does not carry; a stream of a kind that a connector does not know is reset with
//! [`AbortCode::UnknownKind`], and nothing else is. A hostname may be announced for several kinds, each with an id of its own.
//!
//! # Connect streams
//! A visitor's connection as it is, from its first byte (its ClientHello) on. Announced for names whose TLS does not end at the
//! edge: `tls` says for people where it does, the edge does the same for all.
//! ```text
//! edge → connector:  OPEN "connect"  raw bytes  FIN
//! connector → edge:                  raw bytes  FIN
//! ```
//! FIN closes one half, a reset is a reset for the other side's peer. The connector resets a stream that it cannot carry before
//! any byte goes back; with a code after which a request may be sent again, the edge may try elsewhere, as long as it has
//! taken nothing but the ClientHello from the visitor.
//!
//! # Request streams
//! Either direction is a sequence of frames, `type: u8`, `length: varint`
//! (RFC 9000 §16), payload:
//! ```text
//! edge → connector:  REQUEST  DATA* TRAILERS? END FIN
//! connector → edge:  INTERIM*  RESPONSE  DATA* TRAILERS? END FIN
//! upgrade:           REQUEST with an upgrade token, then nothing until the answer;
//!                    RESPONSE 101: from here on both directions are raw bytes, FIN closes one half;
//!                    any other RESPONSE: the sender of REQUEST adds END, and the stream is an ordinary one.
//! ```
//! | frame    | type | payload ([`stream::head`] has the layouts) | limit |
//! |----------|------|------------------------------------|-------|
//! | REQUEST  | 0x01 | answer window, request head | [`limits::MAX_HEAD_BYTES`] |
//! | RESPONSE | 0x02 | response head | [`limits::MAX_HEAD_BYTES`] |
//! | INTERIM  | 0x03 | status 100..=199 (not 101) and fields | 16 a response |
//! | DATA     | 0x04 | body bytes, handed on as they arrive | 2^30 a frame |
//! | TRAILERS | 0x05 | fields | [`limits::MAX_TRAILER_BYTES`] |
//! | END      | 0x06 | empty: the body is whole | |
//! | OPEN     | 0x07 | answer window, kind and what it needs ([`opening`]); first of its stream | [`limits::MAX_HEAD_BYTES`] |
//! | 0x40 and up | | to be skipped by those who do not know them | [`limits::MAX_HEAD_BYTES`] |
//!
//! A clean end is explicit: FIN without END, a reset, or the loss of the session is an abort with a code
//! ([`AbortCode`]) and reaches the visitor and the origin as a reset, never as a short body. One bad message resets
//! its stream, never the session. Nobody reads from a stream what he cannot hand on.
//!
//! # Flow control
//! Either direction of a stream may have sent so many bytes in all, frames and raw bytes alike: its limit. Towards the connector
//! it begins with [`limits::FIRST_WINDOW_BYTES`]; towards the edge with what the opening says: the payload of REQUEST and OPEN
//! begins with `answer window: varint`. The receiver raises a limit as it reads, by records on the **credit stream**, which the
//! edge opens right behind Welcome, before any other, and which lives as long as the session:
//! ```text
//! edge → connector:  OPEN "credit" (no answer window), then records      connector → edge:  records
//! record             stream: varint (the carrier's number), limit: varint
//! ```
//! Nothing is granted before half of the window was read, or an eighth of one above 256 KiB. Records of streams that are over, or were never there, are skipped.
//! Who sends more than was granted has broken the protocol on this stream. [`flow`] has how wide windows are.
//!
//! # Versions
//! Hello names the lowest and highest version its sender speaks; the edge chooses the highest it shares and
//! supports at least the version before its own, but for those that were in no release (1 and 2). No shared version is an explicit, permanent refusal.
//!
//! # What the wire cannot say
//! A stream carries a public hostname and a route id, never an address: what a connector may reach is decided by its
//! own rules alone.

pub mod carrier;
pub mod certificates;
pub mod code;
pub mod control;
pub mod dial;
pub mod flow;
mod granted;
pub mod guest;
pub mod handshake;
pub mod identity;
pub mod limits;
pub mod listen;
pub mod message;
pub mod opening;
pub mod proof;
pub mod public_key;
pub mod semantics;
pub mod stream;
pub mod token;

mod session;

pub use carrier::{Closed, Congestion, DatagramError, Traffic, Transport};
pub use certificates::Certificates;
pub use code::{AbortCode, CloseCode, Executed};
pub use control::{Control, ControlError, ControlRecv, ControlSend};
pub use granted::Granted;
pub use identity::{EdgeIdentity, IdentityError, Pin};
pub use message::{Message, PlainHttp, RefusedRoute, Route, Stats, TlsEnd};
pub use opening::{Kind, Opening, Passage};
pub use public_key::{PublicKey, PublicKeyError};
pub use semantics::{Authority, Host, HostError, Pattern, PatternError};
pub use session::{OpenError, Role, Session, SessionId, SessionInfo, Sign, Watch};
pub use stream::frame::Frame;
pub use stream::head::{BodyKind, RequestHead, RequestId, ResponseHead, Scheme};
pub use stream::{First, RawRecv, RawSend, RecvStream, ResponseEvent, SendStream, StreamError};
pub use token::{ConnectorId, KeyId, Token, TunnelId, TunnelKey};

#[cfg(test)]
mod tests;
