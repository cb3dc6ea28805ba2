//! The record of DNS-PERSIST-01 in a real zone: as printed it is found, and what keeps it from serving is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is the harness's, and each of these files needs a part of it"
)]
#[path = "../../tests/src/named.rs"]
mod named;

use causeway_acme::dns::persist::{Persist, Standing};
use causeway_acme::dns::{Resolvers, Server};

use crate::named::{Difference, Named};

const NOW: u64 = 1_800_000_000;

#[tokio::test]
async fn the_printed_line_put_into_a_zone_is_found_ready() {
    let account = format!("https://ca.example/acct/{}", "1".repeat(300));
    let of = |host: &str, until| Persist::new(host, "ca.example", &account, until).unwrap();
    let (wildcard, exact, over) = (
        of("*.example.test", None),
        of("www.example.test", Some(NOW)),
        of("old.example.test", Some(NOW - 1)),
    );
    let records = [&wildcard, &exact, &over].map(Persist::zone_line).join("\n");
    let records = format!("{records}\n_validation-persist TXT \"other.example; accounturi=x\"\n");
    let named = Named::start(Difference { records: &records, ..Difference::default() });
    let resolvers = Resolvers::new(&[Server::from(named.address)]);
    assert_eq!(wildcard.look_up(&resolvers, NOW).await.unwrap(), Standing::Ready { until: None });
    assert_eq!(exact.look_up(&resolvers, NOW).await.unwrap(), Standing::Ready { until: Some(NOW) });
    assert!(
        matches!(over.look_up(&resolvers, NOW).await.unwrap(), Standing::Useless(reason) if reason.contains("over"))
    );
    assert_eq!(of("none.example.test", None).look_up(&resolvers, NOW).await.unwrap(), Standing::Missing);
    let narrow = of("*.www.example.test", None).look_up(&resolvers, NOW).await.unwrap();
    assert!(matches!(narrow, Standing::Useless(reason) if reason.contains("policy=wildcard")));
    let dead = Resolvers::new(&[Server::try_from("127.0.0.1:1".to_owned()).unwrap()]);
    assert!(wildcard.look_up(&dead, NOW).await.is_err());
}
