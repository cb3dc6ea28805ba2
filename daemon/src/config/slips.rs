//! What a person meant: from a mistake's place in a YAML text to the key it belongs to, the value as it was written,
//! and the usual slips of those who do not write YAML every day. Guesses, for messages alone.

/// A mistake told in a person's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slip {
    /// Where it really is, when that is not where the parser noticed.
    pub(super) at: Option<(u64, u64)>,
    pub(super) reason: String,
    pub(super) help: String,
}

/// A text and a place in it, counted from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    text: &'a str,
    pub(super) line: u64,
    pub(super) column: u64,
}

impl<'a> Place<'a> {
    pub(super) fn new(text: &'a str, line: u64, column: u64) -> Self {
        Self { text, line, column }
    }

    /// The key whose value stands here: on this line, or the nearest one above that is indented less.
    pub(super) fn key(&self) -> Option<&'a str> {
        let (before, at) = self.split();
        if let Some(key) = last_key(before) {
            return Some(key);
        }
        let mut left = if before.trim().is_empty() { before.len() } else { indentation(before) };
        for line in self.above() {
            let content = line.trim_start();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let own = indentation(line);
            // A list may stand as far left as its key.
            let is_list = before.trim_start().starts_with('-') || at.starts_with('-');
            if own < left || (is_list && own == left && !content.starts_with('-')) {
                if let Some(key) = last_key(line) {
                    return Some(key);
                }
                left = own;
            }
        }
        None
    }

    /// The plain or quoted value that stands here, as written.
    pub(super) fn value(&self) -> Option<&'a str> {
        let rest = self.split().1;
        if let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            let end = rest[1..].find(quote)? + 2;
            return Some(&rest[..end]);
        }
        let rest = rest.split(" #").next().unwrap_or(rest);
        let is_flow = self.split().0.contains(['{', '[']);
        let rest = if is_flow { rest.split([',', '}', ']']).next().unwrap_or(rest) } else { rest }.trim_end();
        let is_value =
            !rest.is_empty() && !rest.starts_with(['[', '{', '|', '>', '-']) && last_key(rest).is_none();
        is_value.then_some(rest)
    }

    /// What opens here: `[` or `-` is a list, `{` or a key a mapping.
    pub(super) fn found(&self) -> &'static str {
        let rest = self.split().1;
        if rest.starts_with('[') || rest.starts_with("- ") {
            "a list"
        } else if rest.starts_with('{') || last_key(rest).is_some() {
            "a mapping"
        } else if rest.is_empty() {
            "nothing"
        } else {
            "a single value"
        }
    }

    /// The slip that keeps the text from being YAML, or from being what was meant.
    pub(super) fn slip(&self) -> Option<Slip> {
        self.tab().or_else(|| {
            let near = self.lines_back().take(LOOK_BACK);
            near.map(|(number, line)| line_slip(number, line)).find(Option::is_some).flatten()
        })
    }

    /// The slip of this very line, in a text that is YAML all the same.
    pub(super) fn slip_here(&self) -> Option<Slip> {
        self.lines_back().next().and_then(|(number, line)| line_slip(number, line))
    }

    fn tab(&self) -> Option<Slip> {
        let until = usize::try_from(self.line).unwrap_or(usize::MAX).saturating_add(1);
        let mut lines = self.text.lines().take(until).enumerate();
        let (number, line) = lines.find(|(_, line)| {
            let content = line.trim_start();
            !content.is_empty()
                && !content.starts_with('#')
                && line[..line.len() - content.len()].contains('\t')
        })?;
        Some(Slip {
            at: Some((number as u64 + 1, 1 + line.find('\t')? as u64)),
            reason: "the line is indented with a tab".to_owned(),
            help: "YAML takes spaces only".to_owned(),
        })
    }

    /// This line and those before it, from here upwards.
    fn lines_back(&self) -> impl Iterator<Item = (u64, &'a str)> {
        let mut lines: Vec<&str> =
            self.text.lines().take(usize::try_from(self.line).unwrap_or(usize::MAX)).collect();
        let mut number = lines.len() as u64;
        std::iter::from_fn(move || {
            let line = lines.pop()?;
            number -= 1;
            Some((number + 1, line))
        })
    }

    fn above(&self) -> impl Iterator<Item = &'a str> {
        let line = self.line;
        self.lines_back().skip_while(move |(number, _)| *number >= line).map(|(_, line)| line)
    }

    /// The line before and from this column on.
    fn split(&self) -> (&'a str, &'a str) {
        let index = usize::try_from(self.line).unwrap_or(usize::MAX).saturating_sub(1);
        let line = self.text.lines().nth(index).unwrap_or("");
        let column = usize::try_from(self.column).unwrap_or(usize::MAX).saturating_sub(1);
        let at = line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
        line.split_at(at)
    }
}

/// Parsers notice some slips only lines later.
const LOOK_BACK: usize = 6;

fn line_slip(number: u64, line: &str) -> Option<Slip> {
    let content = line.trim_start();
    if content.starts_with('#') {
        return None;
    }
    let column = |part: &str| line.find(part).map_or(1, |at| line[..at].chars().count() as u64 + 1);
    let slip =
        |at: &str, reason: String, help: String| Some(Slip { at: Some((number, column(at))), reason, help });
    let word = content.split([' ', ':']).next().unwrap_or("");
    if let Some(name) =
        word.strip_prefix('-').filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
    {
        let reason = format!("`{word}` has no space after the dash, so it is no entry of a list");
        return slip(word, reason, format!("write `- {name}`"));
    }
    let entry = content.trim_start_matches("- ");
    let (key, value) = match entry.trim_start_matches(['{', ' ']).split_once(": ") {
        Some((key, value)) => (Some(key), value.trim()),
        None => (None, entry.trim_end()),
    };
    let of = |key: Option<&str>| key.map(|key| format!("`{key}`: ")).unwrap_or_default();
    if let Some(name) = value.strip_prefix('*') {
        let shown = value.split([' ', ',', '}', ']']).next().unwrap_or(value);
        let reason = format!("{}`{shown}` is a reference to YAML, not a text", of(key));
        let help = if name.starts_with('.') || shown == "*" {
            format!("put it into quotation marks: \"{shown}\"")
        } else {
            format!("define it with `&{name}`, or put it into quotation marks")
        };
        return slip(shown, reason, help);
    }
    if let Some(first) = value.chars().next().filter(|c| matches!(c, '@' | '`' | '%')) {
        let reason = format!("{}a value cannot begin with `{first}`", of(key));
        return slip(value, reason, "put it into quotation marks".to_owned());
    }
    if let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\''))
        && value.matches(quote).count() % 2 == 1
    {
        return slip(
            value,
            format!("{}the quotation mark is never closed", of(key)),
            format!("end the value with {quote}"),
        );
    }
    if !value.starts_with(['"', '\'', '{', '[']) && key.is_some() && value.contains(": ") {
        let reason = format!("{}a `: ` inside a value makes a second key of it", of(key));
        return slip(
            value,
            reason,
            "put the value into quotation marks, or the second key on a line of its own".to_owned(),
        );
    }
    let bare = key.is_none().then(|| entry.split_once(':')).flatten();
    if let Some((name, rest)) =
        bare.filter(|(name, rest)| is_key(name) && !rest.is_empty() && !rest.starts_with("//"))
    {
        return slip(
            entry,
            format!("`{name}:` has no space after the colon, so it is no key"),
            format!("write `{name}: {rest}`"),
        );
    }
    None
}

/// The last `key:` of a line.
fn last_key(line: &str) -> Option<&str> {
    let line = line.split(" #").next().unwrap_or(line);
    let mut ends = line.match_indices(':').map(|(at, _)| at).collect::<Vec<_>>();
    while let Some(end) = ends.pop() {
        let is_end = matches!(line[end + 1..].chars().next(), None | Some(' '));
        let start = line[..end].rfind([' ', '{', ',', '[']).map_or(0, |at| at + 1);
        let key = line[start..end].trim_matches(['"', '\'']);
        if is_end && is_key(key) {
            return Some(key);
        }
    }
    None
}

fn is_key(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str, line: u64, column: u64) -> Option<&str> {
        Place::new(text, line, column).key()
    }

    fn slip(line: &str) -> (String, String) {
        let slip = Place::new(line, 1, 1).slip().unwrap_or_else(|| panic!("no slip in {line}"));
        (slip.reason, slip.help)
    }

    #[test]
    fn a_value_is_found_with_the_key_that_it_belongs_to() {
        assert_eq!(key("address: x\n", 1, 10), Some("address"));
        assert_eq!(key("listen: { http: [], https: [\"443\"] }\n", 1, 29), Some("https"));
        assert_eq!(key("address:\n  # where\n  - a\n  - b\n", 4, 5), Some("address"));
        assert_eq!(key("a: 1\naddress:\n- b\n", 3, 3), Some("address"));
        assert_eq!(key("listen:\n  https:\n    - x\n", 3, 7), Some("https"));
        assert_eq!(key("ingress:\n  hostname: a\n", 2, 3), Some("ingress"));
        assert_eq!(key("a: 1\n", 1, 1), None);
        assert_eq!(key("", 7, 9), None);
    }

    #[test]
    fn the_value_is_shown_as_it_was_written() {
        assert_eq!(Place::new("a: \"x y\" # z\n", 1, 4).value(), Some("\"x y\""));
        assert_eq!(Place::new("a: x y # z\n", 1, 4).value(), Some("x y"));
        assert_eq!(Place::new("a: [x]\n", 1, 4).value(), None);
        assert_eq!(Place::new("a: [x]\n", 1, 4).found(), "a list");
        assert_eq!(Place::new("a: {x: 1}\n", 1, 4).found(), "a mapping");
    }

    #[test]
    fn the_usual_slips_are_told_apart() {
        assert_eq!(
            slip("  - hostname: *.example.dev"),
            (
                "`hostname`: `*.example.dev` is a reference to YAML, not a text".to_owned(),
                "put it into quotation marks: \"*.example.dev\"".to_owned()
            )
        );
        assert!(slip("  - { hostname: *.example.dev, service: x }").1.contains("quotation"));
        assert_eq!(slip("    -hostname: a").1, "write `- hostname`");
        assert_eq!(slip("\tname: x").0, "the line is indented with a tab");
        assert!(slip("name: @x").0.contains("cannot begin with `@`"));
        assert!(slip("name: \"x").0.contains("never closed"));
        assert!(slip("service: http_status: 404").0.contains("second key"));
        assert_eq!(slip("service:http_status").1, "write `service: http_status`");
        for fine in ["service: http://a:80", "# -x", "- a", "name: 'it''s'", "https://a", "---", "- -1"] {
            assert_eq!(Place::new(fine, 1, 1).slip(), None, "{fine}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_place_of_any_text_is_looked_at(text in "[-a:*\"'{}\\[\\], \n\t#\u{e9}]{0,60}", line in 0_u64..9, column in 0_u64..20) {
            let place = Place::new(&text, line, column);
            let _ = (place.key(), place.value(), place.found(), place.slip());
        }
    }
}
