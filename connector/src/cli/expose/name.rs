//! Under which public name a service is exposed. Pure: what is granted and what was asked for come in.

use causeway_tunnel::{Host, Pattern};

/// Why there is no name; says what there could be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameError {
    #[error(
        "the edge does not say what this tunnel is granted (it may be older than this program): give a whole name with --name"
    )]
    Untold,
    #[error("several names are granted, and no wildcard: choose one with --name: {0}")]
    Several(String),
    #[error("`{0}` is not a hostname or the first label of one: {1}")]
    Bad(String, String),
    #[error(
        "`{name}` is not granted to this tunnel, which may serve {granted}: choose a name of those with --name, or grant it at the edge"
    )]
    NotGranted { name: String, granted: String },
}

/// `asked`: a whole name, or what stands in front of a granted wildcard. Without it: a label made of `seed` under the first
/// wildcard, so that the same service has the same address each time, or the only name that there is.
pub(super) fn choose(asked: Option<&str>, granted: &[Pattern], seed: [u8; 8]) -> Result<Pattern, NameError> {
    let Some(asked) = asked else { return by_itself(granted, seed) };
    let bad = |reason: String| NameError::Bad(asked.to_owned(), reason);
    let exact = |text: &str| match Pattern::parse(text) {
        Ok(name @ Pattern::Exact(_)) => Ok(name),
        Ok(_) => Err(bad("a wildcard cannot be exposed".to_owned())),
        Err(error) => Err(bad(error.to_string())),
    };
    if asked.contains('.') {
        let name = exact(asked)?;
        // Untold or too many to be told: the edge has the last word anyway.
        if granted.is_empty() || granted.iter().any(|grant| grant.covers(&name)) {
            return Ok(name);
        }
        return Err(not_granted(asked, granted));
    }
    Host::name(asked).map_err(|error| bad(error.to_string()))?;
    if granted.is_empty() {
        return Err(NameError::Untold);
    }
    // `blog` may also mean the granted blog.example.dev.
    let of_label =
        |grant: &&Pattern| matches!(grant, Pattern::Exact(name) if name.split('.').next() == Some(asked));
    match wildcards(granted).next() {
        Some(parent) => exact(&format!("{asked}.{parent}")),
        None => granted.iter().find(of_label).cloned().ok_or_else(|| not_granted(asked, granted)),
    }
}

fn by_itself(granted: &[Pattern], seed: [u8; 8]) -> Result<Pattern, NameError> {
    if let Some(parent) = wildcards(granted).next() {
        let label = label(seed);
        let name = format!("{label}.{parent}");
        return Pattern::parse(&name).map_err(|error| NameError::Bad(name, error.to_string()));
    }
    match granted {
        [] => Err(NameError::Untold),
        [only @ Pattern::Exact(_)] => Ok(only.clone()),
        _ => Err(NameError::Several(listed(granted))),
    }
}

/// What stands behind the `*.` of each, those first that are nearest to the root.
fn wildcards(granted: &[Pattern]) -> impl Iterator<Item = &str> {
    let mut all: Vec<&str> = granted
        .iter()
        .filter_map(|grant| match grant {
            Pattern::Wildcard(parent) => Some(&**parent),
            _ => None,
        })
        .collect();
    all.sort_by_key(|parent| (parent.matches('.').count(), *parent));
    all.into_iter()
}

fn not_granted(name: &str, granted: &[Pattern]) -> NameError {
    NameError::NotGranted { name: name.to_owned(), granted: listed(granted) }
}

fn listed(granted: &[Pattern]) -> String {
    let mut text = granted.iter().take(LISTED).map(Pattern::to_string).collect::<Vec<_>>().join(", ");
    if granted.len() > LISTED {
        text.push_str(", …");
    }
    text
}

/// `calm-otter-42`: 102,400 of them, each easy to say.
fn label(seed: [u8; 8]) -> String {
    let [first, second, .., high, low] = seed.map(usize::from);
    let (first, second, number) = (first % FIRST.len(), second % SECOND.len(), (high * 256 + low) % 100);
    format!("{}-{}-{number:02}", FIRST[first], SECOND[second])
}

/// A message names at most this many grants.
const LISTED: usize = 8;

const FIRST: [&str; 32] = [
    "amber", "blue", "brave", "bright", "brisk", "calm", "clear", "cool", "crisp", "early", "fair", "fresh",
    "gentle", "glad", "golden", "green", "happy", "keen", "kind", "light", "lively", "lucky", "mild", "neat",
    "quick", "quiet", "silver", "smooth", "sunny", "swift", "warm", "young",
];
const SECOND: [&str; 32] = [
    "badger", "bay", "beech", "birch", "brook", "cedar", "cliff", "cloud", "crane", "dune", "falcon", "fern",
    "finch", "fox", "harbor", "hare", "heron", "hill", "lake", "lark", "maple", "meadow", "moon", "otter",
    "owl", "pine", "river", "robin", "stone", "swan", "wave", "willow",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn granted(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
    }

    fn name(asked: Option<&str>, grants: &[&str]) -> Result<String, NameError> {
        choose(asked, &granted(grants), [0; 8]).map(|name| name.to_string())
    }

    #[test]
    fn a_name_is_a_label_under_a_wildcard_or_a_whole_one() {
        let grants = ["*.deep.example.dev", "*.example.dev", "shop.example"];
        for (asked, found) in [
            ("demo", "demo.example.dev"),
            ("demo.example.dev", "demo.example.dev"),
            ("a.deep.example.dev", "a.deep.example.dev"),
            ("Shop.Example", "shop.example"),
        ] {
            assert_eq!(name(Some(asked), &grants).as_deref(), Ok(found));
        }
        assert_eq!(
            name(Some("blog"), &["www.example.dev", "blog.example.dev"]).as_deref(),
            Ok("blog.example.dev")
        );
        assert_eq!(
            name(Some("demo.example.dev"), &[]).as_deref(),
            Ok("demo.example.dev"),
            "an older edge decides"
        );
    }

    #[test]
    fn without_a_name_it_is_a_label_or_the_only_one() {
        assert_eq!(
            name(None, &["example.dev", "*.example.dev"]).as_deref(),
            Ok("amber-badger-00.example.dev")
        );
        assert_eq!(name(None, &["blog.example.dev"]).as_deref(), Ok("blog.example.dev"));
        let several = name(None, &["a.example.dev", "b.example.dev"]).unwrap_err();
        assert!(several.to_string().ends_with("--name: a.example.dev, b.example.dev"), "{several}");
        assert_eq!(name(None, &[]), Err(NameError::Untold));
        assert!(name(None, &["*"]).is_err(), "nothing says which names there are");
    }

    #[test]
    fn what_is_not_granted_is_named_with_what_is() {
        let error = name(Some("demo.other.dev"), &["*.example.dev"]).unwrap_err().to_string();
        assert!(
            error.contains("`demo.other.dev` is not granted") && error.contains("*.example.dev"),
            "{error}"
        );
        assert!(name(Some("demo"), &["blog.example.dev"]).is_err());
        assert!(name(Some("*.example.dev"), &["*.example.dev"]).is_err());
        assert!(name(Some("a b"), &["*.example.dev"]).unwrap_err().to_string().contains("`a b`"));
        assert_eq!(name(Some("demo"), &[]), Err(NameError::Untold));
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_granted(seed in any::<[u8; 8]>(), asked in proptest::option::of("[a-z.*-]{0,20}")) {
            let grants = granted(&["*.example.dev", "shop.example"]);
            if let Ok(name) = choose(asked.as_deref(), &grants, seed) {
                prop_assert!(matches!(name, Pattern::Exact(_)) && grants.iter().any(|grant| grant.covers(&name)));
            } else {
                prop_assert!(asked.is_some());
            }
        }
    }
}
