//! Certificates that cannot be obtained, or end: those that no visit of a granted name has shown already.

use causeway_acme::State;
use causeway_daemon::doctor::Finding;
use causeway_front::doctor::visit::SOON_DAYS;

use super::names::Granted;
use crate::config::Config;
use crate::status::Status;
use crate::unix_now;

pub(super) fn of_running(status: &Status, granted: &[Granted]) -> Vec<Finding> {
    let mut found = Vec::new();
    for view in &status.certificates {
        let reason = view.last_error.as_deref().unwrap_or("no reason is known");
        let mend = format!("mend what the reason names, then `causeway-edge cert renew {}`", view.name);
        match view.state {
            State::Valid => {}
            State::Ordering => {
                found.push(Finding::note("order", &view.name, "the first certificate is under way"))
            }
            State::Failing => found.push(Finding::warning(
                "order",
                &view.name,
                format!("cannot be renewed: {reason}"),
                mend,
            )),
            State::Failed | State::Expired => {
                found.push(Finding::fault(
                    "order",
                    &view.name,
                    format!("cannot be obtained: {reason}"),
                    mend,
                ));
            }
        }
    }
    let is_visited = |name: &str| granted.iter().any(|one| one.is_shown && one.pattern.to_string() == name);
    let files = status.certificate_files.iter().filter(|file| !is_visited(&file.name));
    found.extend(files.filter_map(|file| ending(&file.name, file.not_after)));
    found
}

/// Where no edge runs: those that the configuration names.
pub(super) fn of_files(config: &Config) -> Vec<Finding> {
    let Ok(certified) = crate::front::check_certificates(config) else { return Vec::new() };
    certified.files().iter().filter_map(|(name, not_after)| ending(name, *not_after)).collect()
}

fn ending(name: &str, not_after: i64) -> Option<Finding> {
    let days = (not_after - unix_now()).div_euclid(86_400);
    let mend = "write a new file: it is read at once";
    match days {
        SOON_DAYS.. => None,
        0.. => Some(Finding::warning(
            "certificate",
            name,
            format!("the file's certificate ends in {days} days"),
            mend,
        )),
        _ => Some(Finding::fault(
            "certificate",
            name,
            format!("the file's certificate ended {} days ago", -days),
            mend,
        )),
    }
}
