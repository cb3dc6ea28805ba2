//! Certificates proved by DNS, against a real authority (pebble) and a real nameserver (BIND).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::{Duration, Instant};

use causeway_tests::client::tls_connect;
use causeway_tests::edge::{Edge, EdgeOptions};
use causeway_tests::named::{Difference, Named};
use causeway_tests::pebble::{Manners, Pebble, Place};
use causeway_tests::{needs, run, wait};
use serde_json::Value;

const WILDCARD: &str = "*.example.test";
const SITE: &str = "any.example.test";
const WITHIN: Duration = Duration::from_secs(60);

/// An edge with a tunnel that is granted the wildcard, and its authority.
async fn town(place: Place, dns: &str) -> (Edge, Pebble) {
    let config = place.config(&format!("  challenges: [dns-01, dns-persist-01]\n  dns:\n{dns}"));
    let edge = Edge::with(EdgeOptions { config, no_dev: true, ..EdgeOptions::default() }).await;
    edge.create("site", &[WILDCARD]).await;
    let pebble = place.open(&Manners::of(&edge)).await;
    (edge, pebble)
}

async fn is_served(edge: &Edge, root: &Path) -> bool {
    tls_connect(edge.https, root, SITE, &["http/1.1"]).await.is_ok()
}

#[test]
fn a_wildcard_is_served_within_ten_seconds_of_its_lasting_record() {
    run(async {
        let Some(place) = Place::choose() else { return };
        let dns = format!("    resolvers: [\"{}\"]\n", place.dns());
        let (edge, pebble) = town(place, &dns).await;
        let told = edge.cli(&["cert", "add", WILDCARD, "--persist", "--output", "json"]).await.json();
        let (name, value) = (told["record"].as_str().unwrap(), told["value"].as_str().unwrap());
        assert_eq!(name, "_validation-persist.example.test");
        assert!(value.contains("; policy=wildcard") && value.starts_with("pebble."), "{value}");
        let missing = || async {
            let view = edge.cli(&["cert", "show", WILDCARD, "--output", "json"]).await.json();
            view["lastError"].as_str().filter(|error| error.contains("there is no record")).map(str::to_owned)
        };
        let (error, _) = wait::until("the edge to miss the record", WITHIN, missing).await;
        assert!(error.contains(told["line"].as_str().unwrap()), "{error}");

        pebble.put_txt(name, value).await;
        let began = Instant::now();
        wait::until("the certificate", WITHIN, || async {
            is_served(&edge, &pebble.root()).await.then_some(())
        })
        .await;
        assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
        // Visitors see it before the disk has it, and what the edge tells of it comes after.
        let valid = || async {
            let view = edge.cli(&["cert", "show", WILDCARD, "--output", "json"]).await.json();
            Some(view).filter(|view| view["state"] == "VALID")
        };
        let view = wait::until("the certificate to be kept", WITHIN, valid).await.0;
        assert_eq!(view["lastError"], Value::Null, "{view}");
        // The record proves the next one too.
        edge.cli(&["cert", "renew", WILDCARD]).await.ok();
    });
}

#[test]
fn a_wildcard_is_proved_by_an_update_of_its_zone() {
    run(async {
        let (Some(place), Some(_)) = (Place::choose(), needs("named")) else { return };
        let named = Named::start(Difference::default());
        let (server, key) = (named.address, named.key_file.display());
        let dns = format!(
            "    update: {{ server: \"{server}\", keyFile: {key} }}\n    resolvers: [\"{server}\"]\n"
        );
        let (edge, pebble) = town(place.asking(server), &dns).await;
        let began = Instant::now();
        edge.cli(&["cert", "add", WILDCARD]).await.ok();
        assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
        assert!(is_served(&edge, &pebble.root()).await);
    });
}
