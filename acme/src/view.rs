//! What is known of all names now, for people and figures.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One name. Times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    pub name: String,
    pub state: State,
    /// Who signed the certificate that is there.
    pub directory: Option<String>,
    pub not_before: Option<i64>,
    pub not_after: Option<i64>,
    pub renew_at: Option<i64>,
    /// Attempts in vain since the last success.
    pub failures: u32,
    pub next_try: Option<i64>,
    pub last_error: Option<String>,
    /// It was asked for by hand.
    pub added: bool,
    /// A connector announces it now.
    pub announced: bool,
    /// An order runs now.
    pub under_way: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// The first certificate is under way.
    Ordering,
    Valid,
    /// Valid, but it could not be renewed so far.
    Failing,
    /// There is none, and the last attempt failed.
    Failed,
    /// Still served, and browsers complain.
    Expired,
}

/// All names, sorted, and what all orders of this process came to: `issued`, or why not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    pub names: Vec<View>,
    pub orders: BTreeMap<&'static str, u64>,
}

impl View {
    /// Whole days until the certificate that is there ends; negative when it has.
    pub fn days_left(&self, now: i64) -> Option<i64> {
        self.not_after.map(|end| (end - now).div_euclid(86_400))
    }
}
