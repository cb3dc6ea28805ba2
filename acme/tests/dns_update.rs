//! RFC 2136 against a real BIND: what is put into a zone is there, what is taken out is gone, and a refusal says what mends it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is the harness's, and each of these files needs a part of it"
)]
#[path = "../../tests/src/named.rs"]
mod named;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use causeway_acme::dns::{DnsConfig, DnsSolver, Resolvers, Server};
use causeway_daemon::config::parse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::named::{Difference, KEY, Named, ZONE, free_port};

const NAME: &str = "_acme-challenge.example.test";

/// As a user writes it.
fn config(text: &str) -> DnsConfig {
    parse("edge.yaml", text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn update(named: &Named, update: &str, rest: &str) -> DnsConfig {
    let (server, key) = (named.address, named.key_file.display());
    config(&format!(
        "update: {{ server: '{server}', keyFile: {key} {update} }}\nresolvers: ['{server}']\n{rest}"
    ))
}

fn solver(named: &Named, more: &str, rest: &str) -> Arc<dyn DnsSolver> {
    update(named, more, rest).solver().unwrap().unwrap()
}

async fn values(server: SocketAddr, name: &str) -> Vec<String> {
    let mut found = Resolvers::new(&[Server::from(server)]).txt(name).await.unwrap();
    found.sort();
    found
}

#[tokio::test]
async fn a_value_is_added_and_taken_out_and_others_stay() {
    let named = Named::start(Difference::default());
    let solver = solver(&named, "", "");
    solver.present(NAME, "one").await.unwrap();
    solver.present(NAME, "two").await.unwrap();
    assert_eq!(values(named.address, NAME).await, ["kept", "one", "two"]);
    solver.present(NAME, "two").await.expect("may be repeated");
    solver.remove(NAME, "one").await.unwrap();
    assert_eq!(values(named.address, NAME).await, ["kept", "two"]);
    solver.remove(NAME, "one").await.expect("may be repeated");
    solver.remove(NAME, "two").await.unwrap();
    assert_eq!(values(named.address, NAME).await, ["kept"]);

    let deep = "_acme-challenge.a.b.example.test";
    solver.present(deep, "deep").await.expect("the zone is found above names that do not exist");
    assert_eq!(values(named.address, deep).await, ["deep"]);
}

#[tokio::test]
async fn a_key_may_stand_in_the_configuration_with_its_secret_in_a_file() {
    let named = Named::start(Difference::default());
    let text = std::fs::read_to_string(&named.key_file).unwrap();
    let secret = named.folder().join("secret");
    std::fs::write(&secret, text.split('"').nth(3).unwrap()).unwrap();
    let (server, secret) = (named.address, secret.display());
    let solver = config(&format!(
        "update: {{ server: '{server}', zone: {ZONE}, key: {{ name: {KEY}, secretFile: {secret} }} }}"
    ));
    solver.solver().unwrap().unwrap().present(NAME, "one").await.unwrap();
    assert_eq!(values(named.address, NAME).await, ["kept", "one"]);
}

#[tokio::test]
async fn each_refusal_says_what_mends_it() {
    let named = Named::start(Difference::default());
    let plain = solver(&named, "", "");
    let refusals = [
        (
            plain.present("www.example.test", "x").await,
            "REFUSED",
            "grant acme-key. name www.example.test. txt",
        ),
        (plain.present("_acme-challenge.nowhere.dev", "x").await, "has no zone with", "set `server`"),
        (
            solver(&named, ", zone: other.test", "").present(NAME, "x").await,
            "is not in the zone other.test.",
            "leave `zone` out",
        ),
        (solver(&named, ", zone: test", "").present(NAME, "x").await, "NOTAUTH", "not the primary of test."),
        (plain.present("_acme-challenge..dev", "x").await, "is not a name", ""),
        (plain.present(NAME, &"x".repeat(256)).await, "too long", "255"),
    ];
    for (outcome, what, mend) in refusals {
        let told = outcome.unwrap_err().to_string();
        assert!(told.contains(what) && told.contains(mend), "{told}");
    }
    assert_eq!(values(named.address, NAME).await, ["kept"], "nothing was changed");
}

#[tokio::test]
async fn a_wrong_key_is_told_from_a_wrong_secret() {
    let named = Named::start(Difference::default());
    let server = named.address;
    let secret = named.folder().join("wrong");
    std::fs::write(&secret, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").unwrap();
    for (name, code, mend) in
        [(KEY, "BADSIG", "another secret"), ("nobody", "BADKEY", "nobody. (hmac-sha256)")]
    {
        let key = format!("key: {{ name: {name}, secretFile: {} }}", secret.display());
        let solver = config(&format!("update: {{ server: '{server}', {key} }}")).solver().unwrap().unwrap();
        let told = solver.present(NAME, "x").await.unwrap_err().to_string();
        assert!(told.contains(code) && told.contains(mend) && told.contains("not signed"), "{told}");
    }
}

#[tokio::test]
async fn hazard_164_a_wrong_clock_is_told_by_how_much() {
    fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }
    let named = Named::start(Difference::default());
    let config = update(&named, "", "");
    for (clock, said) in [((|| now() + 3600) as fn() -> u64, "behind"), (|| now() - 3600, "ahead of")] {
        let told =
            config.solver_by(clock).unwrap().unwrap().present(NAME, "x").await.unwrap_err().to_string();
        assert!(told.contains("BADTIME") && told.contains(said), "{told}");
        let seconds: u64 =
            told.split("clock is ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!((3500..3700).contains(&seconds), "{told}");
    }
    config
        .solver_by(|| now() - 200)
        .unwrap()
        .unwrap()
        .present(NAME, "x")
        .await
        .expect("minutes do not matter");
}

#[tokio::test]
async fn an_alias_leads_to_the_zone_that_may_be_changed() {
    let records = "_acme-challenge.www CNAME www.delegated\n_acme-challenge.far CNAME elsewhere.dev.";
    let named = Named::start(Difference { records, ..Difference::default() });
    let solver = solver(&named, "", "");
    solver.present("_acme-challenge.www.example.test", "aliased").await.unwrap();
    assert_eq!(values(named.address, "www.delegated.example.test").await, ["aliased"]);
    assert_eq!(
        values(named.address, "_acme-challenge.www.example.test").await,
        ["aliased"],
        "as the authority sees it"
    );
    let told = solver.present("_acme-challenge.far.example.test", "x").await.unwrap_err().to_string();
    assert!(told.contains("has no zone with elsewhere.dev."), "{told}");
}

#[tokio::test]
async fn a_record_is_presented_when_the_secondary_shows_it_too() {
    let port = free_port();
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let primary = Named::start(Difference { tells: Some(at), ..Difference::default() });
    let second = Named::start(Difference {
        secondary_of: Some(primary.address),
        port: Some(port),
        ..Difference::default()
    });
    let seen_by = format!("seenBy: ['{}', '{}']\nwait: 30s", primary.address, second.address);
    solver(&primary, "", &seen_by).present(NAME, "one").await.unwrap();
    assert_eq!(values(second.address, NAME).await, ["kept", "one"]);
}

#[tokio::test]
async fn a_nameserver_without_the_record_is_named_and_a_dead_one_is_not_waited_for() {
    let named = Named::start(Difference::default());
    let stranger = Named::start(Difference::default());
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let began = Instant::now();
    let lists = |servers: &[SocketAddr]| {
        format!("seenBy: [{}]\nwait: 1s", servers.iter().map(|it| format!("'{it}',")).collect::<String>())
    };
    let told = solver(&named, "", &lists(&[named.address, stranger.address])).present(NAME, "one").await;
    let told = told.unwrap_err().to_string();
    assert!(told.contains(&format!("still missing at {} after 1 s", stranger.address)), "{told}");
    solver(&named, "", &lists(&[dead, named.address])).present(NAME, "two").await.unwrap();
    let told = solver(&named, "", &lists(&[dead])).present(NAME, "three").await.unwrap_err().to_string();
    assert!(told.contains("no nameserver of"), "{told}");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_zone_of_many_names_and_a_name_of_many_values_are_no_matter() {
    let mut records = String::new();
    for number in 0..20_000 {
        writeln!(records, "host{number} A 192.0.2.1").unwrap();
    }
    // BIND takes a hundred values of one name.
    for number in 0..80 {
        writeln!(records, "_acme-challenge TXT \"{number:0>43}\"").unwrap();
    }
    let named = Named::start(Difference { records: &records, ..Difference::default() });
    let solver = solver(&named, "", "");
    solver.present(NAME, "one").await.unwrap();
    assert_eq!(values(named.address, NAME).await.len(), 82, "an answer of 4 KB, over TCP");
    solver.remove(NAME, "one").await.unwrap();
    assert_eq!(values(named.address, NAME).await.len(), 81);
}

/// Who can be asked instead of the server says that all is well.
#[tokio::test]
async fn an_unsigned_yes_is_not_believed() {
    let named = Named::start(Difference::default());
    let liar = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = liar.local_addr().unwrap();
    let key = named.key_file.display();
    let text =
        format!("update: {{ server: '{at}', zone: {ZONE}, keyFile: {key} }}\nresolvers: ['{at}']\nwait: 0s");
    let solver = config(&text).solver().unwrap().unwrap();
    let lies = async {
        loop {
            let (mut stream, _) = liar.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut message = vec![0; length.into()];
            stream.read_exact(&mut message).await.unwrap();
            // The header alone: an answer, no error, nothing in any section.
            message.truncate(12);
            message[2] |= 0x80;
            message[4..12].fill(0);
            stream.write_u16(12).await.unwrap();
            stream.write_all(&message).await.unwrap();
        }
    };
    let outcome =
        tokio::select! { outcome = solver.present(NAME, "x") => outcome, () = lies => unreachable!() };
    let told = outcome.unwrap_err().to_string();
    assert!(told.contains("bears no signature"), "{told}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let named = Named::start(Difference::default());
    let (dead, key) = (free_port(), named.key_file.display());
    let text = format!("update: {{ server: '127.0.0.1:{dead}', keyFile: {key} }}");
    let told = config(&text).solver().unwrap().unwrap().present(NAME, "x").await.unwrap_err().to_string();
    assert!(told.contains(&format!("127.0.0.1:{dead}")) && told.contains("cannot reach it"), "{told}");
}
