//! What the sites of the tests are called, and how long one may take to be up.

use std::time::Duration;

/// The names that a site's tunnel may serve.
pub const NAMES: [&str; 2] = ["example.test", "*.example.test"];
/// How long a site may take to come up on a loaded machine.
pub(crate) const START: Duration = Duration::from_secs(20);
