//! A site whose edge and connectors share one process, and a line with delay and loss between them in its memory.
//!
//! With `CAUSEWAY_LINE=memory` the harness starts `causeway-one-process` for an edge, and tells it of each connector by a file.
//! So the whole suite runs over the memory carrier, but for tests that look at one of the two as a process.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;

/// Whether this run is to be in one process.
pub fn is_wanted() -> bool {
    std::env::var("CAUSEWAY_LINE").is_ok_and(|line| line == "memory")
}

/// The program, which stands beside the tests' own.
///
/// # Panics
/// When the runner did not build it.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own path");
    let folder = own.parent().and_then(Path::parent).expect("tests lie in `deps`");
    folder.join("causeway-one-process")
}

/// Where the process looks for connectors: each file names the folder of one.
///
/// # Panics
/// When there is no folder to be had.
pub fn connectors() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| TempDir::new().expect("a temporary folder")).path()
}

/// Has the process start the connector whose rules and token are in `folder`.
///
/// # Panics
/// When the folder cannot be written.
pub fn connect(folder: &Path) {
    let name = format!("{:016x}", rand::random::<u64>());
    let written = connectors().join(format!(".{name}"));
    std::fs::write(&written, folder.as_os_str().as_encoded_bytes()).expect("an own folder can be written");
    // Whole or not at all.
    std::fs::rename(&written, connectors().join(name)).expect("an own file can be renamed");
}
