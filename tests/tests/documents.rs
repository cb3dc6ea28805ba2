//! What the documents say of tests is true: each test that they name exists.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use causeway_tests::programs::here;

/// All Rust files of the workspace's packages.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The words in backquotes that look like a test's name: a promise has many words.
fn named_tests(page: &str) -> Vec<&str> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter(|word| word.matches('_').count() >= 4 && !word.contains([' ', '/', '…', '.'])).collect()
}

#[test]
fn each_test_that_the_security_page_names_exists() {
    let root = here().join("..");
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let mut files = Vec::new();
    sources(&root, &mut files);
    let code: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let named = named_tests(&page);
    assert!(named.len() > 40, "the page names its tests");
    let missing: Vec<_> = named.into_iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

/// Numbers such as `7`, `1-5` and `16, 17` of a cell.
fn numbers(cell: &str) -> Vec<u16> {
    let ranges = cell.split(", ").filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

#[test]
fn each_hazard_of_the_open_internet_has_its_row_on_the_security_page() {
    let page = std::fs::read_to_string(here().join("../docs/security.md")).unwrap();
    let table = page.split("hazards 1-118").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut listed: Vec<u16> = Vec::new();
    for row in table.lines().filter_map(|line| line.strip_prefix("| ")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let of_row = numbers(cells[0]);
        // A row without a test gives its reason.
        assert!(
            of_row.is_empty() || cells.len() == 4 && (cells[3].contains('`') || cells[2].len() > 10),
            "{row}"
        );
        listed.extend(of_row);
    }
    listed.sort_unstable();
    assert_eq!(listed, (1..=118).collect::<Vec<_>>());
}
