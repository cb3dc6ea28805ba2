//! What a server means by refusing an update, and what mends it.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::tsig::TsigError;

use super::key::Key;
use super::place::Place;

/// A server's no, in its own word and in ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// As the standards and the server's log call it: `REFUSED`, `NOTAUTH (BADKEY)`.
    pub code: String,
    pub mend: String,
}

impl Refusal {
    pub(crate) fn new(code: ResponseCode, error: Option<TsigError>, place: &Place, key: &Key) -> Self {
        let Place { record, zone } = place;
        let (name, algorithm) = (key.name(), key.algorithm());
        let (word, mend) = match (error, code) {
            (Some(TsigError::BadKey), _) => (
                "NOTAUTH (BADKEY)".to_owned(),
                format!("the server knows no key of this name and algorithm: give it the key {name} ({algorithm})"),
            ),
            (Some(TsigError::BadSig), _) => (
                "NOTAUTH (BADSIG)".to_owned(),
                format!("the server has another secret for the key {name}: copy the key file anew"),
            ),
            (Some(TsigError::BadTime), _) => (
                "NOTAUTH (BADTIME)".to_owned(),
                "the clocks of the two machines differ by more than five minutes: set the wrong one".to_owned(),
            ),
            (Some(TsigError::BadTrunc), _) => (
                "NOTAUTH (BADTRUNC)".to_owned(),
                format!("the server wants signatures of another length: give the key {name} a whole algorithm, hmac-sha256"),
            ),
            (_, ResponseCode::Refused) => (
                "REFUSED".to_owned(),
                format!("the server does not let the key {name} change this record; in BIND: update-policy {{ grant {name} name {record} txt; }};"),
            ),
            (_, ResponseCode::NotAuth) => (
                "NOTAUTH".to_owned(),
                format!("the server is not the primary of {zone}, or wants another key for it: look at `server`, `zone` and the key"),
            ),
            (_, ResponseCode::NotZone) => {
                ("NOTZONE".to_owned(), format!("{record} is not in {zone}: leave `zone` out, and it is found"))
            }
            (_, ResponseCode::NotImp) => ("NOTIMP".to_owned(), "this server takes no updates at all".to_owned()),
            (_, ResponseCode::ServFail) => (
                "SERVFAIL".to_owned(),
                "the server failed, and its log says why; often it may not write its journal beside the zone file".to_owned(),
            ),
            (_, ResponseCode::FormErr) => {
                ("FORMERR".to_owned(), "the server does not understand updates, or not signed ones".to_owned())
            }
            (_, other) => (other.to_string(), "the server's log says why".to_owned()),
        };
        Self { code: word, mend }
    }

    /// The server's clock beside ours.
    pub(crate) fn with_clocks(mut self, theirs: Option<u64>, ours: u64) -> Self {
        if let Some(theirs) = theirs {
            let (behind, seconds) =
                if theirs > ours { ("ahead of", theirs - ours) } else { ("behind", ours - theirs) };
            self.mend = format!("the server's clock is {seconds} s {behind} ours: set the one that is wrong");
        }
        self
    }

    /// Who cannot sign, as a server without the key, may be anybody.
    pub(crate) fn unsigned(mut self) -> Self {
        self.mend.push_str(" (this answer was not signed)");
        self
    }
}
