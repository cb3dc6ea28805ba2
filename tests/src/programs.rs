//! Where the programs under test are: built once in the `quick` profile, or taken from `CAUSEWAY_BIN_DIR`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of `causeway-edge`, `causeway-connector` or `causeway-sample`.
///
/// # Panics
/// When it cannot be built.
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    // The same packages as deploy/quickstart, so that nothing is built twice.
    let packages = ["causeway-edge", "causeway-connector", "causeway-sample"];
    let path = FOLDER.get_or_init(|| built(&packages)).join(name);
    assert!(path.exists(), "{} does not exist", path.display());
    path
}

/// The folder in which the programs of these packages are.
///
/// # Panics
/// When they cannot be built.
pub fn built(packages: &[&str]) -> PathBuf {
    if let Some(folder) = std::env::var_os("CAUSEWAY_BIN_DIR") {
        return folder.into();
    }
    let root = here().join("..");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(&root).args(["build", "--quiet", "--locked", "--profile", "quick"]);
    build.args(packages.iter().flat_map(|package| ["-p", package]));
    let status = build.status().expect("cargo can be started");
    assert!(status.success(), "the programs under test do not build");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("quick")
}

/// The folder of this package, as the runner says it: builds are shared between clones, so the compiler's word may be old.
pub fn here() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).to_owned(), PathBuf::from)
}
