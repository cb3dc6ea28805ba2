//! Who is to sign certificates: whether they are reached from here, and what time they have.

use std::time::{Duration, SystemTime};

use causeway_acme::Settings;
use causeway_daemon::doctor::Finding;
use causeway_front::doctor::clock;
use tokio::time::timeout;

/// The first of them is asked for everything while it answers.
pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    for directory in &settings.directories {
        let looked = timeout(PATIENCE, directory.look()).await;
        match looked.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs()))) {
            Ok(date) => {
                found.push(Finding::ok("authority", &directory.url, "answers"));
                found.extend(
                    date.map(|date| clock::compare(SystemTime::now(), date, "the certificate authority")),
                );
            }
            Err(error) => {
                let mend = "TCP 443 outward, DNS and the clock of this machine: `curl -v` the address; certificates that are there stay valid \
                            meanwhile";
                found.push(Finding::warning("authority", &directory.url, error, mend));
            }
        }
    }
    found
}

const PATIENCE: Duration = Duration::from_secs(10);
