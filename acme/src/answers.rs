//! The answers that authorities look for now. Whoever holds the ports asks here, and lets everything pass that is not
//! outstanding (hazard 131): another client's tokens are its own business.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use causeway_daemon::tls::provider;
use parking_lot::Mutex;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::settings::TLS_ALPN_PROTOCOL;
use crate::storage::Posted;

/// Cheap to clone; clones share the table.
#[derive(Clone, Default)]
pub struct Answers(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    /// Token to the name it is for and the text that is looked for.
    http: HashMap<String, (String, String)>,
    tls: HashMap<String, Arc<ServerConfig>>,
    /// The same two of other programs' orders, which come and go as those say.
    posted_http: HashMap<String, (String, String)>,
    posted_tls: HashMap<String, (Vec<u8>, Arc<ServerConfig>)>,
}

/// Takes its answer away when it goes.
pub(crate) struct Outstanding {
    answers: Answers,
    key: Key,
}

enum Key {
    Http(String),
    Tls(String),
}

/// RFC 8555 section 8.3.
const HTTP_PATH: &str = "/.well-known/acme-challenge/";

impl Answers {
    /// What to answer, as `text/plain` or without a type, to a request for this path of this name.
    pub fn http(&self, host: &str, path: &str) -> Option<String> {
        let token = path.strip_prefix(HTTP_PATH)?;
        let table = self.0.lock();
        let (name, text) = table.http.get(token).or_else(|| table.posted_http.get(token))?;
        (name == host).then(|| text.clone())
    }

    /// With what to shake hands with somebody who asks for this name and for [`TLS_ALPN_PROTOCOL`] alone.
    pub fn tls(&self, host: &str) -> Option<Arc<ServerConfig>> {
        let table = self.0.lock();
        let posted = || table.posted_tls.get(host).map(|(_, config)| config);
        table.tls.get(host).or_else(posted).cloned()
    }

    pub(crate) fn add_http(&self, name: &str, token: &str, text: &str) -> Outstanding {
        self.0.lock().http.insert(token.to_owned(), (name.to_owned(), text.to_owned()));
        Outstanding { answers: self.clone(), key: Key::Http(token.to_owned()) }
    }

    /// # Errors
    /// When no certificate can be made for this name.
    pub(crate) fn add_tls(&self, name: &str, digest: &[u8]) -> Result<Outstanding, rcgen::Error> {
        self.0.lock().tls.insert(name.to_owned(), Arc::new(tls_answer(name, digest)?));
        Ok(Outstanding { answers: self.clone(), key: Key::Tls(name.to_owned()) })
    }

    /// These, and no others, are other programs' answers now.
    pub(crate) fn lend(&self, posted: Vec<Posted>) {
        let mut table = self.0.lock();
        let mut before = std::mem::take(&mut table.posted_tls);
        table.posted_http.clear();
        for answer in posted {
            match answer {
                Posted::Http { name, token, text } => drop(table.posted_http.insert(token, (name, text))),
                Posted::Tls { name, digest } => {
                    // A key is made once an order, not with every look.
                    let known = before.remove(&name).filter(|(known, _)| *known == digest);
                    let known = known.or_else(|| {
                        let made = tls_answer(&name, &digest);
                        let made = made.inspect_err(|error| tracing::warn!(name, %error, "no answer by TLS"));
                        Some((digest, Arc::new(made.ok()?)))
                    });
                    if let Some(known) = known {
                        table.posted_tls.insert(name, known);
                    }
                }
            }
        }
    }
}

/// A certificate that says nothing but the digest (RFC 8737 section 3).
fn tls_answer(name: &str, digest: &[u8]) -> Result<ServerConfig, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = provider();
    let key = provider.key_provider.load_private_key(key).expect("a key of rcgen's is one that TLS can use");
    // Made by hand: rustls' own check of key and certificate stumbles over the extension, which is critical.
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![certificate.der().clone()], key));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![TLS_ALPN_PROTOCOL.to_vec()];
    Ok(config)
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        let mut table = self.answers.0.lock();
        match &self.key {
            Key::Http(token) => drop(table.http.remove(token)),
            Key::Tls(name) => drop(table.tls.remove(name)),
        }
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.0.lock();
        f.debug_struct("Answers").field("http", &table.http.len()).field("tls", &table.tls.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_131_only_an_outstanding_token_of_the_same_name_is_answered_and_only_while_it_is() {
        let answers = Answers::default();
        let outstanding = answers.add_http("a.example", "token", "token.thumb");
        let ask = |host, path| answers.http(host, path);
        let path = "/.well-known/acme-challenge/token";
        assert_eq!(ask("a.example", path).as_deref(), Some("token.thumb"));
        for (host, path) in [
            ("b.example", path),
            ("a.example", "/.well-known/acme-challenge/other"),
            ("a.example", "/.well-known/acme-challenge/token/"),
            ("a.example", "/.well-known/acme-challenge/token?x=1"),
            ("a.example", "/.well-known/acme-challenge/"),
            ("a.example", "/token"),
        ] {
            assert_eq!(ask(host, path), None, "{host}{path}");
        }
        drop(outstanding);
        assert_eq!(ask("a.example", path), None);
    }

    #[test]
    fn what_others_posted_is_answered_while_they_say_so() {
        let answers = Answers::default();
        let http =
            |name: &str| Posted::Http { name: name.to_owned(), token: "t".to_owned(), text: "x".to_owned() };
        let tls = |fill| Posted::Tls { name: "b.example".to_owned(), digest: vec![fill; 32] };
        let _own = answers.add_http("own.example", "own", "own.thumb");
        answers.lend(vec![http("a.example"), tls(1)]);
        let ask = |host| answers.http(host, "/.well-known/acme-challenge/t");
        assert_eq!((ask("a.example").as_deref(), ask("b.example")), (Some("x"), None));
        let first = answers.tls("b.example").unwrap();
        answers.lend(vec![tls(1)]);
        assert!(ask("a.example").is_none() && Arc::ptr_eq(&first, &answers.tls("b.example").unwrap()));
        answers.lend(vec![tls(2)]);
        assert!(!Arc::ptr_eq(&first, &answers.tls("b.example").unwrap()), "another order");
        answers.lend(Vec::new());
        assert!(answers.tls("b.example").is_none());
        assert!(answers.http("own.example", "/.well-known/acme-challenge/own").is_some());
    }

    #[test]
    fn a_tls_answer_speaks_the_one_protocol_and_goes_with_its_order() {
        let answers = Answers::default();
        let outstanding = answers.add_tls("a.example", &[7; 32]).unwrap();
        assert_eq!(answers.tls("a.example").unwrap().alpn_protocols, [TLS_ALPN_PROTOCOL]);
        assert!(answers.tls("b.example").is_none());
        drop(outstanding);
        assert!(answers.tls("a.example").is_none());
    }
}
