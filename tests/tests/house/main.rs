//! The house is in order: who may take from whom, no circles between files, files of a size that can be read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod circles;
mod reader;
mod tree;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use causeway_tests::programs::here;

use crate::circles::circles;
use crate::reader::tokens;
use crate::tree::{Imports, Tree};

/// Each package, and which of ours it may take from; all others may take from all.
const PACKAGES: [(&str, Option<&[&str]>); 11] = [
    ("daemon", Some(&[])),
    ("tunnel", Some(&[])),
    ("acme", Some(&["causeway-daemon"])),
    ("front", Some(&["causeway-daemon", "causeway-tunnel", "causeway-acme"])),
    ("connector", Some(&["causeway-daemon", "causeway-tunnel", "causeway-acme", "causeway-front"])),
    ("edge", Some(&["causeway-daemon", "causeway-tunnel", "causeway-acme", "causeway-front"])),
    ("l2", Some(&["causeway-daemon"])),
    ("deploy/sample", Some(&[])),
    ("tests", None),
    ("benches", None),
    ("fuzz", None),
];

#[test]
fn packages_take_only_from_those_below_them() {
    for (package, allowed) in PACKAGES {
        let manifest = std::fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap();
        let Some(allowed) = allowed else { continue };
        let ours: Vec<_> = dependencies(&manifest).filter(|name| name.starts_with("causeway-")).collect();
        let strangers: Vec<_> = ours.into_iter().filter(|name| !allowed.contains(name)).collect();
        assert_eq!(strangers, Vec::<&str>::new(), "{package} may not take from these");
    }
}

#[test]
fn no_files_take_from_each_other_in_a_circle() {
    let mut report = String::new();
    for tree in trees() {
        let imports = tree.imports();
        for circle in circles(&imports) {
            describe(&tree, &imports, &circle, &mut report);
        }
    }
    assert!(report.is_empty(), "files import each other in circles:\n{report}");
}

/// The finder itself: names are followed through what is only handed on; tests, comments and parts of a module make no circle.
#[test]
fn a_circle_is_found_whatever_the_way_its_names_take() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("lib.rs", "mod apple; mod bread; mod cake; pub use bread::{Bread, Slice as Piece};");
    write("apple.rs", "use crate::{Piece, cake::self}; #[cfg(test)] mod tests { use crate::cake::Cake; }");
    write("bread.rs", "pub struct Bread; pub struct Slice; fn eat() { super::cake::bake() }");
    write(
        "cake.rs",
        "//! See crate::apple.\npub struct Cake; pub fn bake() { let _ = \"crate::apple::Apple\"; }",
    );
    let tree = Tree::of(&folder.path().join("lib.rs"));
    assert!(circles(&tree.imports()).is_empty(), "{:?}", tree.imports());

    write("cake.rs", "pub fn bake(apple: &crate::apple::Apple<'static>) { let c = '\"'; }");
    let tree = Tree::of(&folder.path().join("lib.rs"));
    let mut report = String::new();
    let [circle] = circles(&tree.imports()).try_into().unwrap();
    describe(&tree, &tree.imports(), &circle, &mut report);
    for line in ["apple.rs takes Slice from", "bread.rs takes bake from", "cake.rs takes Apple from"] {
        assert!(report.contains(line), "{report}");
    }
}

#[test]
fn files_keep_their_proportions() {
    let mut sizes: Vec<(usize, String)> = trees()
        .iter()
        .flat_map(|tree| tree.files.iter().map(|file| (file.lines, shown(&file.path))))
        .collect();
    sizes.sort();
    let at = |share: usize| sizes[sizes.len() * share / 100].0;
    let longest = sizes.last().unwrap();
    assert!(sizes.len() > 200, "all files are found, not {} only", sizes.len());
    assert!(at(50) <= MEDIAN_LINES, "half of the files have more than {} lines of code", at(50));
    assert!(at(90) <= LONG_LINES, "a tenth of the files has more than {} lines of code", at(90));
    assert!(longest.0 <= MAX_LINES, "{} has {} lines of code", longest.1, longest.0);
}

#[test]
fn only_the_carrier_names_quinn_and_a_visitor_of_the_tests() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let named: Vec<_> = files
        .iter()
        .filter(|file| {
            tokens(&std::fs::read_to_string(file).unwrap()).iter().any(|token| token.is_word("quinn"))
        })
        .map(|file| shown(file))
        .filter(|file| !file.starts_with("tunnel/src/carrier/quic"))
        // The edge's HTTP/3 takes its streams from the carrier; its visitor is made of other parts.
        .filter(|file| file != "tests/src/client/http3.rs")
        .collect();
    assert_eq!(named, Vec::<String>::new(), "only tunnel/src/carrier/quic* knows quinn");
}

#[test]
fn of_the_tunnel_only_the_tcp_carrier_names_h2() {
    let mut files = Vec::new();
    sources(&root().join("tunnel"), &mut files);
    let named: Vec<_> = files
        .iter()
        .filter(|file| {
            tokens(&std::fs::read_to_string(file).unwrap()).iter().any(|token| token.is_word("h2"))
        })
        .map(|file| shown(file))
        .filter(|file| !file.starts_with("tunnel/src/carrier/tcp"))
        .collect();
    assert_eq!(named, Vec::<String>::new(), "only tunnel/src/carrier/tcp* knows h2");
}

/// As soon as the straight lines of ARCHITECTURE.md are told in files, each of them must exist.
#[test]
fn each_file_of_the_straight_lines_exists() {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("The straight lines")).unwrap();
    let listed: Vec<_> = section
        .split("```")
        .skip(1)
        .step_by(2)
        .flat_map(|block| block.split(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c))))
        .filter(|word| word.contains("/src/") && word.ends_with(".rs"))
        .collect();
    assert!(listed.len() >= 20, "the lines name the files that they pass");
    let gone: Vec<_> = listed.into_iter().filter(|file| !root().join(file).is_file()).collect();
    assert_eq!(gone, Vec::<&str>::new(), "ARCHITECTURE.md names files that are not there");
}

fn root() -> PathBuf {
    here().join("..").canonicalize().unwrap()
}

/// The path as people write it.
fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn name(tree: &Tree, file: usize) -> String {
    shown(&tree.files[file].path)
}

/// A tree for each crate of each package.
fn trees() -> Vec<Tree> {
    let mut roots = Vec::new();
    for (package, _) in PACKAGES {
        let package = root().join(package);
        roots.extend(["src/lib.rs", "src/main.rs"].map(|file| package.join(file)));
        for folder in ["src/bin", "benches", "fuzz_targets"] {
            let Ok(entries) = std::fs::read_dir(package.join(folder)) else { continue };
            for path in entries.map(|entry| entry.unwrap().path()) {
                roots.push(if path.is_dir() { path.join("main.rs") } else { path });
            }
        }
    }
    roots.iter().filter(|file| file.is_file()).map(|file| Tree::of(file)).collect()
}

/// All Rust files below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names in the dependency sections of a manifest.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    manifest
        .split("\n[")
        .filter(|section| section.split(']').next().is_some_and(|name| name.ends_with("dependencies")))
        .flat_map(|section| section.lines().skip(1))
        .filter_map(|line| line.split(['.', '=', ' ']).next())
}

fn describe(tree: &Tree, imports: &[Imports], circle: &BTreeSet<usize>, report: &mut String) {
    writeln!(report, "a circle of {} files", circle.len()).unwrap();
    for from in circle {
        for (to, names) in imports[*from].iter().filter(|(to, _)| circle.contains(to)) {
            let names = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            writeln!(report, "  {} takes {names} from {}", name(tree, *from), name(tree, *to)).unwrap();
        }
    }
}

/// Proportions of files that can be read: linkerd's median is 121, its longest tenth begins at 360.
const MEDIAN_LINES: usize = 125;
const LONG_LINES: usize = 250;
const MAX_LINES: usize = 600;
