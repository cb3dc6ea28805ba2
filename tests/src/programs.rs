//! Where the programs under test are: built once in the `quick` profile, or taken from `CAUSEWAY_BIN_DIR`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The path of `causeway-edge` or `causeway-connector`.
///
/// # Panics
/// When it cannot be built.
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let path = FOLDER.get_or_init(folder).join(name);
    assert!(path.exists(), "{} does not exist", path.display());
    path
}

fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("CAUSEWAY_BIN_DIR") {
        return folder.into();
    }
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(root).args(["build", "--quiet", "--locked", "--profile", "quick"]);
    // The same packages as deploy/quickstart, so that nothing is built twice.
    build.args(["-p", "causeway-edge", "-p", "causeway-connector", "-p", "causeway-sample"]);
    let status = build.status().expect("cargo can be started");
    assert!(status.success(), "the programs under test do not build");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(root).join("target"), PathBuf::from);
    target.join("quick")
}
