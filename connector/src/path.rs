//! A rule's `path`: an expression as Go reads it, since rule files were written for a program in Go.
//!
//! Both languages are RE2's children and agree on most things. Where they do not, the expression is rewritten: a brace
//! that counts nothing is a brace, `[` in a class is a bracket, `\Q…\E` quotes, `\d`, `\w`, `\s` and `\b` know ASCII
//! only, and a punctuation mark behind a backslash is always itself.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};

/// A compiled `path`, which remembers how it was written.
#[derive(Clone, Debug)]
pub struct PathPattern {
    written: String,
    regex: Regex,
}

/// Why a `path` is no expression, on one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path is no regular expression: {0}")]
pub struct PathError(String);

impl PathPattern {
    /// # Errors
    /// When Go would refuse it too, or it is far too large.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let translated = Translator { rest: text.chars().peekable(), out: String::new() }.run()?;
        let regex =
            RegexBuilder::new(&translated).size_limit(MAX_BYTES).build().map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => PathError("it is too large: repeat less".to_owned()),
                // The last line says it; those before draw the place in a text that is not the file's.
                error => PathError(
                    error.to_string().lines().last().unwrap_or("").trim_start_matches("error: ").to_owned(),
                ),
            })?;
        Ok(Self { written: text.to_owned(), regex })
    }

    /// Whether the expression is found anywhere in a path.
    pub fn is_match(&self, path: &str) -> bool {
        self.regex.is_match(path)
    }

    /// As it stands in the file.
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// A compiled expression may not take more memory than this: a bound against slips, not a feature.
const MAX_BYTES: usize = 1024 * 1024;

/// Reads Go's syntax (`regexp/syntax` with the flags of `regexp.Compile`), writes that of `regex`.
struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
}

impl Translator<'_> {
    fn run(mut self) -> Result<String, PathError> {
        while let Some(c) = self.rest.next() {
            match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '{' => self.brace(),
                '(' => self.group(),
                ')' | '|' | '*' | '+' | '?' | '.' | '^' | '$' => self.out.push(c),
                literal => self.literal(literal),
            }
        }
        Ok(self.out)
    }

    /// Behind `(`: a name or flags, which are the same in both.
    fn group(&mut self) {
        self.out.push('(');
        if self.rest.peek() != Some(&'?') {
            return;
        }
        for c in self.rest.by_ref() {
            self.out.push(c);
            if matches!(c, ':' | ')' | '>' | '=' | '!') {
                break;
            }
        }
    }

    /// `{3}`, `{3,}` and `{3,5}` count; every other brace is one.
    fn brace(&mut self) {
        let count: String = self.rest.clone().take_while(|&c| c != '}').take(MAX_COUNT_CHARS + 1).collect();
        let is_closed = self.rest.clone().nth(count.chars().count()) == Some('}');
        let is_number = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_digit())
                && (text.len() == 1 || !text.starts_with('0'))
        };
        let is_count = match count.split_once(',') {
            Some((least, most)) => is_number(least) && (most.is_empty() || is_number(most)),
            None => is_number(&count),
        };
        if !is_closed || !is_count {
            return self.literal('{');
        }
        self.out.push('{');
        for _ in 0..=count.len() {
            self.out.extend(self.rest.next());
        }
    }

    /// Behind a backslash, outside of a class.
    fn escape(&mut self) -> Result<(), PathError> {
        match self.rest.peek() {
            Some('Q') => {
                self.rest.next();
                while let Some(c) = self.rest.next() {
                    if c == '\\' && self.rest.peek() == Some(&'E') {
                        self.rest.next();
                        break;
                    }
                    self.literal(c);
                }
            }
            Some(&c @ ('b' | 'B')) => {
                self.rest.next();
                self.out.push_str(if c == 'b' { r"(?-u:\b)" } else { r"\B" });
            }
            Some(&c @ ('A' | 'z')) => {
                self.rest.next();
                self.out.extend(['\\', c]);
            }
            _ => match self.named_class()? {
                Some(class) => self.out.push_str(&format!("[{class}]")),
                None => {
                    let c = self.escaped_char()?;
                    self.literal(c);
                }
            },
        }
        Ok(())
    }

    /// `\d`, `\pL` and the like, as what stands inside of brackets.
    fn named_class(&mut self) -> Result<Option<String>, PathError> {
        let Some(&c) = self.rest.peek() else { return Ok(None) };
        let class = match c {
            'd' => "0-9",
            'D' => "^0-9",
            'w' => "0-9A-Za-z_",
            'W' => "^0-9A-Za-z_",
            's' => r"\t\n\x0C\r ",
            'S' => r"^\t\n\x0C\r ",
            'p' | 'P' => {
                self.rest.next();
                return self.unicode_class(c == 'P').map(Some);
            }
            _ => return Ok(None),
        };
        self.rest.next();
        Ok(Some(class.to_owned()))
    }

    /// Behind `\p` or `\P`: one letter, `{Name}` or `{^Name}`.
    fn unicode_class(&mut self, mut is_negated: bool) -> Result<String, PathError> {
        let unfinished = || PathError(r"`\p` needs the name of a class, as in `\p{Greek}`".to_owned());
        let mut name = match self.rest.next().ok_or_else(unfinished)? {
            '{' => {
                let mut name = String::new();
                loop {
                    match self.rest.next().ok_or_else(unfinished)? {
                        '}' => break name,
                        c => name.push(c),
                    }
                }
            }
            letter => letter.to_string(),
        };
        if let Some(rest) = name.strip_prefix('^') {
            is_negated = !is_negated;
            name = rest.to_owned();
        }
        Ok(format!(r"\{}{{{name}}}", if is_negated { 'P' } else { 'p' }))
    }

    /// Behind a backslash that means one character.
    fn escaped_char(&mut self) -> Result<char, PathError> {
        let c = self.rest.next().ok_or_else(|| PathError("a backslash stands at its end".to_owned()))?;
        let unknown = |c: char| PathError(format!(r"`\{c}` means nothing"));
        Ok(match c {
            'a' => '\x07',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'x' => return self.hexadecimal(),
            '0'..='7' => {
                let is_octal = |c: &char| ('0'..='7').contains(c);
                if c != '0' && !self.rest.peek().is_some_and(is_octal) {
                    return Err(PathError(format!(r"`\{c}` would look back, which costs without bound")));
                }
                let mut value = c.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.rest.next_if(is_octal).and_then(|c| c.to_digit(8)) else { break };
                    value = value * 8 + digit;
                }
                char::from_u32(value).ok_or_else(|| unknown(c))?
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c,
            c => return Err(unknown(c)),
        })
    }

    /// `\x7f` or `\x{10ffff}`.
    fn hexadecimal(&mut self) -> Result<char, PathError> {
        let digits: String = if self.rest.next_if_eq(&'{').is_some() {
            self.rest.by_ref().take_while(|&c| c != '}').collect()
        } else {
            self.rest.by_ref().take(2).collect()
        };
        let value = u32::from_str_radix(&digits, 16).ok().filter(|_| !digits.starts_with('+'));
        value.and_then(char::from_u32).ok_or_else(|| PathError(format!(r"`\x{digits}` is no character")))
    }

    /// Behind `[`: written anew, so that nothing in it has a meaning that Go does not know.
    fn class(&mut self) -> Result<(), PathError> {
        let unfinished = || PathError("a `[` is not closed".to_owned());
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            let &c = self.rest.peek().ok_or_else(unfinished)?;
            if c == ']' && !is_first {
                self.rest.next();
                self.out.push(']');
                return Ok(());
            }
            is_first = false;
            if c == '['
                && let Some(name) = self.posix_class()?
            {
                self.out.push_str(&name);
                continue;
            }
            if c == '\\' {
                let mut ahead = self.rest.clone();
                ahead.next();
                if ahead.peek().is_some_and(|c| "dDwWsSpP".contains(*c)) {
                    self.rest = ahead;
                    let class = self.named_class()?.unwrap_or_default();
                    self.out.push_str(&format!("[{class}]"));
                    continue;
                }
            }
            let low = self.class_char()?;
            self.literal(low);
            let mut ahead = self.rest.clone();
            if ahead.next() == Some('-') && ahead.peek().is_some_and(|&c| c != ']') {
                self.rest = ahead;
                let high = self.class_char()?;
                if high < low {
                    return Err(PathError(format!("`{low}-{high}` runs backwards")));
                }
                self.out.push('-');
                self.literal(high);
            }
        }
    }

    /// `[:alpha:]`, which is the same in both.
    fn posix_class(&mut self) -> Result<Option<String>, PathError> {
        let text: String = self.rest.clone().collect();
        let Some((name, _)) = text.strip_prefix("[:").and_then(|text| text.split_once(":]")) else {
            return Ok(None);
        };
        if !POSIX_CLASSES.contains(&name.trim_start_matches('^')) {
            return Err(PathError(format!("`[:{name}:]` is no class of characters")));
        }
        let class = format!("[:{name}:]");
        self.rest.by_ref().take(class.len()).for_each(drop);
        Ok(Some(class))
    }

    fn class_char(&mut self) -> Result<char, PathError> {
        match self.rest.next() {
            Some('\\') => self.escaped_char(),
            Some(c) => Ok(c),
            None => Err(PathError("a `[` is not closed".to_owned())),
        }
    }

    fn literal(&mut self, c: char) {
        self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }
}

/// The longest count that Go takes is `{1000,1000}`.
const MAX_COUNT_CHARS: usize = 9;
const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An expression, what it is found in, and what it is not found in. The answers are those of Go 1.22.
    const TABLE: &[(&str, &[&str], &[&str])] = &[
        (r"^/users/{id}/posts$", &["/users/{id}/posts"], &["/users/7/posts"]),
        (r"^/a{2}$", &["/aa"], &["/a", "/a{2}"]),
        (r"^/a{2,}$", &["/aa", "/aaaa"], &["/a"]),
        (r"^/a{1,2}/$", &["/a/", "/aa/"], &["/aaa/"]),
        (r"^/a{,2}$", &["/a{,2}"], &["/aa", "/"]),
        (r"^/a{02}$", &["/a{02}"], &["/aa"]),
        (r"^/a{ 2 }$", &["/a{ 2 }"], &["/aa"]),
        (r"^/{", &["/{x"], &["/x"]),
        (r"^/}x", &["/}x"], &["/x"]),
        (r"^/\Qa.b{1}[\E+$", &["/a.b{1}[", "/a.b{1}[["], &["/axb{1}["]),
        (r"^/\Qa.b", &["/a.b"], &["/axb"]),
        (r"^/[[]x", &["/[x"], &["/x"]),
        (r"^/[]a]$", &["/]", "/a"], &["/b"]),
        (r"^/[^]a]$", &["/b"], &["/]", "/a"]),
        (r"^/[a&&b]$", &["/a", "/&", "/b"], &["/c"]),
        (r"^/[a~~b]$", &["/~"], &["/c"]),
        (r"^/[a-]$", &["/a", "/-"], &["/b"]),
        (r"^/[a\-z]$", &["/-", "/a", "/z"], &["/b"]),
        (r"^/[[:alpha:]_]$", &["/a", "/_"], &["/1", "/["]),
        (r"^/[[:x]$", &["/[", "/:", "/x"], &["/y"]),
        (r"^/[\d.]+$", &["/1.2"], &["/a", "/\u{663}"]),
        (r"^/[\D]$", &["/a"], &["/1"]),
        (r"^/[^\d]$", &["/a"], &["/1"]),
        (r"^/\d+$", &["/42"], &["/\u{663}"]),
        (r"^/\w+$", &["/a_1"], &["/é"]),
        (r"^/\W$", &["/é", "/-"], &["/a"]),
        (r"^/a\sb$", &["/a b"], &["/a\u{a0}b", "/a\u{b}b"]),
        (r"\bé", &[], &["é", " é"]),
        (r"/api\b", &["/api", "/api/x", "/apié"], &["/apis"]),
        (r"^/a\/b\.html$", &["/a/b.html"], &["/a/bxhtml"]),
        (r"^/\<a\>\_\-\#\&\~\@\%\ $", &["/<a>_-#&~@% "], &["/a"]),
        (r"^/\x41\x{42}\101\07$", &["/ABA\x07"], &["/x41"]),
        (r"^/\pL\p{Greek}\P{Greek}\p{^Greek}$", &["/aαaa"], &["/aaaa"]),
        (r"(?i)^/API/(?P<rest>.*)$", &["/api/x"], &["/ap"]),
        (r"(?i:A)b", &["ab"], &["aB"]),
        (r"^(?i-s:A.)(?s).$", &["ab\n"], &["a\n\n"]),
        (r"^(a{2})(?:b)$", &["aab"], &["ab"]),
        (r"\.(jpg|png|css|js)$", &["/a/b.css"], &["/a/bcss"]),
        (r"^/a#b & c~d$", &["/a#b & c~d"], &["/a"]),
        (r"^/(?:a|b)*?/x\z", &["/abab/x"], &["/abab/x\n"]),
        ("^/caf\u{e9}$", &["/caf\u{e9}"], &["/cafe"]),
    ];

    #[test]
    fn an_expression_means_what_it_means_to_go() {
        for (written, found, missed) in TABLE {
            let path = PathPattern::parse(written).unwrap_or_else(|error| panic!("{written}: {error}"));
            for text in *found {
                assert!(path.is_match(text), "{written} is not found in {text}: {:?}", path.regex);
            }
            for text in *missed {
                assert!(!path.is_match(text), "{written} is found in {text}: {:?}", path.regex);
            }
            assert_eq!(path.to_string(), *written);
        }
    }

    #[test]
    fn what_go_refuses_is_refused_on_one_line() {
        for written in [
            "([",
            "(",
            ")",
            "*a",
            "a)",
            "[a",
            "[z-a]",
            "[]",
            r"\",
            r"a\1",
            r"\8",
            r"\y",
            r"\u00e9",
            r"\é",
            r"\x",
            r"\x{zz}",
            r"\p{NoSuch}",
            r"\p",
            r"\p{",
            "(?=a)",
            "(?!a)",
            "(?<=a)",
            "{2}",
            "[[:nope:]]",
            r"[\Q",
            r"(?P<n>a)(?P<n>b)",
            "a{1000}{1000}{1000}",
        ] {
            let error = PathPattern::parse(written).map(|path| path.regex).expect_err(written).to_string();
            assert!(
                error.starts_with("the path is no regular expression: ") && !error.contains('\n'),
                "{error}"
            );
            assert!(error.len() > 40, "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}", meta in "[-\\[\\]{}()\\\\^$.*+?|QEdpxa0-9,:&]{0,20}") {
            let _ = PathPattern::parse(&text);
            let _ = PathPattern::parse(&meta);
        }

        #[test]
        fn a_quoted_text_is_found_in_itself(text in "[ -~é]{0,30}") {
            prop_assume!(!text.contains("\\E"));
            let quoted = format!("^\\Q{text}\\E$");
            prop_assert!(PathPattern::parse(&quoted).unwrap().is_match(&text));
        }
    }
}
