//! What the documents say of tests is true, each test that they name exists, and their links lead somewhere.

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

/// What a heading is called in a link: its letters, digits and hyphens, spaces as hyphens.
fn anchors(page: &str) -> Vec<String> {
    let mut is_code = false;
    let headings = page.lines().filter(|line| {
        is_code ^= line.trim_start().starts_with("```");
        !is_code && line.starts_with('#')
    });
    let called = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"));
    called.map(|name| name.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()).collect()
}

#[test]
fn each_link_between_the_documents_leads_somewhere() {
    let root = here().join("..").canonicalize().unwrap();
    let mut pages: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"].map(|page| root.join(page)).into();
    pages.extend(std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let (mut links, mut broken) = (0, Vec::new());
    for page in pages.iter().filter(|page| page.extension().is_some_and(|kind| kind == "md")) {
        let text = std::fs::read_to_string(page).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let is_there = file.exists()
                && (anchor.is_empty()
                    || anchors(&std::fs::read_to_string(&file).unwrap()).iter().any(|known| known == anchor));
            if !is_there {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(links > 50, "the pages link");
    assert_eq!(broken, Vec::<String>::new());
}
