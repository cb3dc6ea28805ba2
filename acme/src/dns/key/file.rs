//! BIND's form of a key: `key "name" { algorithm hmac-sha256; secret "Base64"; };`, with its three kinds of comment.

use causeway_daemon::config::Secret;

use super::{Algorithm, Key, KeyError};

/// Why a text is not a key, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error(
        "line {line}: here must be {wanted}; a key file says: key \"NAME\" {{ algorithm hmac-sha256; secret \"…\"; }};"
    )]
    Expected { line: usize, wanted: &'static str },
    #[error("line {line}: a second `{word}`; a key file holds one key")]
    Second { line: usize, word: &'static str },
    #[error("line {line}: {source}")]
    Key { line: usize, source: KeyError },
}

/// Reads the one key of a file.
///
/// # Errors
/// When it is not in BIND's form, or more than one. No error quotes the secret.
pub fn parse(text: &str) -> Result<Key, FileError> {
    let mut words = Words { rest: text, line: 1 };
    words.keyword("key", "the word `key`")?;
    let name_line = words.line_of_next();
    let name = words.text("the key's name")?;
    words.mark("{")?;
    let (mut algorithm, mut secret) = (None, None);
    loop {
        let line = words.line_of_next();
        match words.next() {
            Some(Word { text: "algorithm", quoted: false }) => {
                let parsed = Algorithm::parse(words.text("the name of an algorithm")?);
                let parsed = parsed.map_err(|source| FileError::Key { line, source })?;
                if algorithm.replace(parsed).is_some() {
                    return Err(FileError::Second { line, word: "algorithm" });
                }
            }
            Some(Word { text: "secret", quoted: false }) => {
                if secret.replace((line, Secret::new(words.text("the secret")?))).is_some() {
                    return Err(FileError::Second { line, word: "secret" });
                }
            }
            Some(Word { text: "}", quoted: false }) => break,
            _ => return Err(FileError::Expected { line, wanted: "`algorithm`, `secret` or `}`" }),
        }
        words.mark(";")?;
    }
    let line = words.line;
    words.end()?;
    let algorithm = algorithm.ok_or(FileError::Expected { line, wanted: "an `algorithm` before the end" })?;
    let (secret_line, secret) =
        secret.ok_or(FileError::Expected { line, wanted: "a `secret` before the end" })?;
    Key::new(name, algorithm, &secret).map_err(|source| {
        let line = if matches!(source, KeyError::Name(_)) { name_line } else { secret_line };
        FileError::Key { line, source }
    })
}

/// A text as BIND cuts it: words, texts in quotation marks, and the marks `{ } ;`.
struct Words<'a> {
    rest: &'a str,
    /// Of what comes next, white space before it not counted; from 1.
    line: usize,
}

#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    quoted: bool,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<Word<'a>> {
        self.skip_blank();
        if let Some(inner) = self.rest.strip_prefix('"') {
            let end = inner.find(['"', '\n']).filter(|&end| inner[end..].starts_with('"'))?;
            self.rest = &inner[end + 1..];
            return Some(Word { text: &inner[..end], quoted: true });
        }
        let is_mark = |c: char| matches!(c, '{' | '}' | ';');
        let end = match self.rest.chars().next()? {
            first if is_mark(first) => 1,
            _ => self
                .rest
                .find(|c: char| is_mark(c) || c == '"' || c.is_whitespace())
                .unwrap_or(self.rest.len()),
        };
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(Word { text, quoted: false })
    }

    fn skip_blank(&mut self) {
        loop {
            let start = self.rest;
            let text = start.trim_start();
            let text = if text.starts_with('#') || text.starts_with("//") {
                text.find('\n').map_or("", |end| &text[end..])
            } else if let Some(comment) = text.strip_prefix("/*") {
                comment.find("*/").map_or("", |end| &comment[end + 2..])
            } else {
                text
            };
            self.line += start[..start.len() - text.len()].matches('\n').count();
            self.rest = text;
            if text.len() == start.len() {
                return;
            }
        }
    }

    fn line_of_next(&mut self) -> usize {
        self.skip_blank();
        self.line
    }

    fn text(&mut self, wanted: &'static str) -> Result<&'a str, FileError> {
        let line = self.line_of_next();
        let found = self.next().filter(|word| word.quoted || !matches!(word.text, "{" | "}" | ";"));
        found.map(|word| word.text).ok_or(FileError::Expected { line, wanted })
    }

    fn keyword(&mut self, keyword: &str, wanted: &'static str) -> Result<(), FileError> {
        let line = self.line_of_next();
        let found = self.next().is_some_and(|word| !word.quoted && word.text == keyword);
        if found { Ok(()) } else { Err(FileError::Expected { line, wanted }) }
    }

    fn mark(&mut self, mark: &'static str) -> Result<(), FileError> {
        self.keyword(mark, if mark == ";" { "a semicolon" } else { "a brace" })
    }

    /// The last semicolon is BIND's; who leaves it out is understood.
    fn end(&mut self) -> Result<(), FileError> {
        let line = self.line_of_next();
        match self.next() {
            None if self.rest.is_empty() => return Ok(()),
            Some(Word { text: ";", quoted: false }) => {}
            _ => return Err(FileError::Expected { line, wanted: "a semicolon" }),
        }
        let line = self.line_of_next();
        match self.next() {
            None if self.rest.is_empty() => Ok(()),
            Some(Word { text: "key", quoted: false }) => Err(FileError::Second { line, word: "key" }),
            _ => Err(FileError::Expected { line, wanted: "the end" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::super::Algorithm;
    use super::{FileError, parse};

    const SECRET: &str = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTI=";

    #[test]
    fn what_tsig_keygen_writes_is_a_key() {
        let text = format!("key \"acme\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{SECRET}\";\n}};\n");
        let key = parse(&text).unwrap();
        assert_eq!((key.name().to_ascii().as_str(), key.algorithm()), ("acme.", Algorithm::HmacSha256));
        assert_eq!(format!("{key:?}"), "Key(acme. hmac-sha256)");
    }

    #[test]
    fn comments_order_quotes_and_the_last_semicolon_do_not_matter() {
        let text = format!(
            "# one\n// two\n/* three\n lines */key Acme.Example. {{ secret {SECRET}; algorithm \"HMAC-SHA512\"; }} // end"
        );
        let key = parse(&text).unwrap();
        assert_eq!(
            (key.name().to_ascii().as_str(), key.algorithm()),
            ("acme.example.", Algorithm::HmacSha512)
        );
    }

    #[test]
    fn a_mistake_is_named_with_its_line_and_without_the_secret() {
        let key = |inner: &str| format!("key \"acme\" {{\n{inner}\n}};\n");
        for (text, line, said) in [
            (String::new(), 1, "the word `key`"),
            (SECRET.to_owned(), 1, "the word `key`"),
            ("key { }".to_owned(), 1, "the key's name"),
            ("\n\nkey \"acme\"".to_owned(), 3, "a brace"),
            (key("algorithm hmac-sha256;"), 3, "a `secret`"),
            (key(&format!("secret \"{SECRET}\";")), 3, "an `algorithm`"),
            (key(&format!("algorithm hmac-sha256;\nsecret \"{SECRET}\"")), 4, "a semicolon"),
            (key(&format!("algorithm hmac-md5; secret \"{SECRET}\";")), 2, "tsig-keygen"),
            (key("algorithm hmac-sha256; secret \"c2hvcnQ=\";"), 2, "5 bytes"),
            (key("algorithm hmac-sha256; secret \"%%%\";"), 2, "not Base64"),
            (key(&format!("algorithm hmac-sha256;\nsecret \"{SECRET};")), 3, "the secret"),
            (
                key(&format!("algorithm hmac-sha256;\nalgorithm hmac-sha256; secret \"{SECRET}\";")),
                3,
                "second",
            ),
            (key(&format!("algorithm hmac-sha256;\nsecret {SECRET}; secret {SECRET};")), 3, "second"),
            (format!("{0}{0}", key(&format!("algorithm hmac-sha256; secret {SECRET};"))), 4, "one key"),
            (
                "key a..b { algorithm hmac-sha256; secret \"c2VjcmV0c2VjcmV0c2VjcmV0\"; };".to_owned(),
                1,
                "name of a key",
            ),
        ] {
            let told = parse(&text).unwrap_err().to_string();
            assert!(told.starts_with(&format!("line {line}: ")) && told.contains(said), "{text}\n{told}");
            assert!(!told.contains(SECRET), "{told}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_key_or_a_kind_error(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn a_key_with_any_blanks_and_comments_is_read(
            blanks in proptest::collection::vec("[ \t\n]([ \t\n]|#[a-z{};\"]*\n|//[a-z]*\n|/\\*[a-z{};\n\"]*\\*/)*", 11),
        ) {
            let words = ["key", "acme", "{", "algorithm", "hmac-sha384", ";", "secret", SECRET, ";", "}", ";"];
            let text: String = blanks.iter().zip(words).flat_map(|(blank, word)| [blank.as_str(), word]).collect();
            let key = parse(&text).unwrap();
            assert_eq!(key.algorithm(), Algorithm::HmacSha384);
        }

        #[test]
        fn a_key_cut_short_is_none(cut in 0..70_usize) {
            let text = format!("key acme {{ algorithm hmac-sha256; secret {SECRET}; }}");
            let cut = cut.min(text.len() - 1);
            assert!(matches!(parse(&text[..cut]), Err(FileError::Expected { .. } | FileError::Key { .. })));
        }
    }
}
