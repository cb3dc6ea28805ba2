//! Circles: files that take from each other, directly or round about.

use std::collections::BTreeSet;

use crate::tree::Imports;

/// The sets of more than one file in which each leads to each other one.
pub(crate) fn circles(imports: &[Imports]) -> Vec<BTreeSet<usize>> {
    let reached: Vec<BTreeSet<usize>> = (0..imports.len()).map(|from| reach(imports, from)).collect();
    let mut found = BTreeSet::new();
    for from in 0..imports.len() {
        let circle: BTreeSet<usize> =
            reached[from].iter().copied().filter(|to| reached[*to].contains(&from)).collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

/// All files that one needs in the end.
fn reach(imports: &[Imports], from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        next.extend(imports[file].keys().copied().filter(|to| reached.insert(*to)));
    }
    reached
}
