//! Certificates that the edge ordered, by name: swapped one at a time, while handshakes go on.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use causeway_acme::Shelf;
use causeway_tunnel::{Host, Pattern};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::files::{certificate, is_below};
use super::{Certificate, Names};

/// One certificate a name; a wildcard stands under its own name, `*.example.dev`.
#[derive(Debug, Default)]
pub struct Issued(ArcSwap<HashMap<String, Arc<Certificate>>>);

impl Issued {
    /// Exact before wildcard.
    pub(super) fn find(&self, name: &Host) -> Option<Arc<Certificate>> {
        let all = self.0.load();
        if all.is_empty() {
            return None;
        }
        let by_wildcard = || all.get(&format!("*.{}", name.split_once('.')?.1));
        all.get(name.as_str()).or_else(by_wildcard).cloned()
    }

    /// Whether a name has a certificate; of a wildcard, whether one of its names has.
    pub(super) fn covers(&self, pattern: &Pattern) -> bool {
        match pattern {
            Pattern::Any => !self.0.load().is_empty(),
            Pattern::Exact(name) => Host::name(name).is_ok_and(|name| self.find(&name).is_some()),
            Pattern::Wildcard(suffix) => {
                self.0.load().keys().any(|name| name.len() > suffix.len() && is_below(name, suffix))
            }
        }
    }

    fn change(&self, change: impl Fn(&mut HashMap<String, Arc<Certificate>>)) {
        self.0.rcu(|all| {
            let mut all = (**all).clone();
            change(&mut all);
            all
        });
    }
}

impl Shelf for Issued {
    fn put(&self, issued: &causeway_acme::Certificate) -> Result<(), String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(issued.chain.as_bytes()).collect();
        let chain = chain.map_err(|error| format!("the chain cannot be read: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(issued.key.expose().as_bytes());
        let key = key.map_err(|error| format!("the key cannot be read: {error}"))?;
        let (names, _) = chain.first().and_then(|leaf| Names::of(leaf)).ok_or("it is no certificate")?;
        let ready = certificate(chain, key, names).map_err(|error| error.to_string())?;
        let ready = Arc::new(ready);
        self.change(|all| drop(all.insert(issued.name.clone(), Arc::clone(&ready))));
        Ok(())
    }

    fn remove(&self, name: &str) {
        self.change(|all| drop(all.remove(name)));
    }
}

#[cfg(test)]
mod tests {
    use causeway_daemon::config::Secret;

    use super::*;

    fn issued(name: &str) -> causeway_acme::Certificate {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let key = Secret::new(made.signing_key.serialize_pem());
        causeway_acme::Certificate::new(name, "d", made.cert.pem(), key, 0).unwrap()
    }

    fn find(shelf: &Issued, name: &str) -> bool {
        shelf.find(&Host::name(name).unwrap()).is_some()
    }

    #[test]
    fn what_is_put_there_is_found_by_its_name_until_it_is_removed() {
        let shelf = Issued::default();
        shelf.put(&issued("a.example")).unwrap();
        shelf.put(&issued("*.apps.example")).unwrap();
        assert!(find(&shelf, "a.example") && find(&shelf, "x.apps.example"));
        assert!(
            !find(&shelf, "b.example") && !find(&shelf, "apps.example") && !find(&shelf, "x.y.apps.example")
        );
        let covers = |pattern: &str| shelf.covers(&Pattern::parse(pattern).unwrap());
        assert!(covers("*.example") && covers("*.apps.example") && !covers("*.a.example"));
        shelf.remove("a.example");
        assert!(!find(&shelf, "a.example"));
    }

    #[test]
    fn hazard_043_a_key_of_another_certificate_is_refused_and_the_earlier_one_stays() {
        let shelf = Issued::default();
        shelf.put(&issued("a.example")).unwrap();
        let before = shelf.find(&Host::name("a.example").unwrap()).unwrap();
        let mut mixed = issued("a.example");
        mixed.key = issued("a.example").key;
        shelf.put(&mixed).unwrap_err();
        let after = shelf.find(&Host::name("a.example").unwrap()).unwrap();
        assert!(Arc::ptr_eq(&before, &after));
    }
}
