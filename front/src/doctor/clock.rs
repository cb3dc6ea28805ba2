//! This machine's clock beside somebody else's.

use std::time::{Duration, SystemTime};

use causeway_daemon::doctor::Finding;

/// A `Date` has whole seconds, and was written a little before it is read.
const FINE: Duration = Duration::from_secs(5);
/// Certificates are dated back by an hour, and tokens of the Internet by minutes.
const BEARABLE: Duration = Duration::from_secs(60);

/// `whose` has the time `theirs` when this machine has `ours`.
pub fn compare(ours: SystemTime, theirs: SystemTime, whose: &str) -> Finding {
    let (apart, word) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if apart <= FINE {
        return Finding::ok("clock", whose, "the same time as here");
    }
    let cause = format!("this machine's clock is {} {word} that of {whose}", span(apart));
    let mend = "set this machine's clock: `timedatectl set-ntp true`, or install chrony; if it is right, set the other's";
    match apart <= BEARABLE {
        true => Finding::warning("clock", whose, cause, mend),
        false => Finding::fault(
            "clock",
            whose,
            cause,
            format!("{mend}. Certificates look ended or not yet valid meanwhile"),
        ),
    }
}

fn span(apart: Duration) -> String {
    match apart.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use causeway_daemon::doctor::Severity;

    use super::*;

    #[test]
    fn seconds_are_fine_and_hours_are_a_fault_in_both_directions() {
        let now = SystemTime::now();
        let day = Duration::from_secs(86_400);
        assert_eq!(compare(now, now - Duration::from_secs(2), "x").severity, Severity::Ok);
        assert_eq!(compare(now, now + Duration::from_secs(30), "x").severity, Severity::Warning);
        let ahead = compare(now, now - day, "x");
        assert_eq!(ahead.severity, Severity::Fault);
        assert!(ahead.cause.contains("24 h ahead of"), "{ahead:?}");
        assert!(compare(now, now + day, "x").cause.contains("24 h behind"));
    }
}
