//! How a test runs: on a runtime of its own, under a deadline; and what a test does when the machine lacks a tool.

use std::future::Future;
use std::time::Duration;

/// Enough for any short form on a loaded two-core machine; a test that hangs is named instead of stopping the run.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs one test to its end or to the default deadline.
pub fn run<F: Future<Output = ()>>(test: F) {
    run_within(DEADLINE, test);
}

/// Runs one test under a deadline of its own.
///
/// # Panics
/// When the deadline passes first.
pub fn run_within<F: Future<Output = ()>>(deadline: Duration, test: F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    runtime.block_on(async {
        let outcome = tokio::time::timeout(deadline, Box::pin(test)).await;
        assert!(outcome.is_ok(), "the test did not end within {deadline:?}");
    });
}

/// Whether the long forms were asked for (`tests/run --long`).
pub fn long() -> bool {
    std::env::var_os("CAUSEWAY_LONG").is_some()
}

/// The path of a tool that a test needs. `None` means: skip, and the skip is said on standard error for the summary of `tests/run`.
///
/// # Panics
/// In CI (`CI=true`), where nothing is skipped.
pub fn needs(tool: &str) -> Option<std::path::PathBuf> {
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("CAUSEWAY_CACHE").unwrap_or_else(|_| format!("{home}/.cache/causeway"));
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = [format!("{cache}/tools/bin"), format!("{cache}/python/bin")];
    let folders = folders.iter().map(String::as_str).chain(path.split(':')).chain(["/usr/sbin", "/sbin"]);
    let found = folders.map(|folder| std::path::Path::new(folder).join(tool)).find(|path| path.exists());
    if found.is_none() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{test} needs {tool}; tests/prepare installs it"
        );
        eprintln!("SKIPPED {test}: {tool} is not installed; tests/prepare installs it");
    }
    found
}
