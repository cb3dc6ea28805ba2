//! The data file: what its header says of its form.

use crate::programs::here;
use crate::site::APP;

/// One request, or several on one connection.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    /// By which its requests are known at an origin.
    pub word: String,
    /// In the project's list of hazards; 0 for ordinary requests.
    pub hazard: u16,
    pub bytes: Vec<u8>,
    pub verdict: Verdict,
}

/// What the edge has to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answered with one of these and closed; the origin sees nothing.
    Refused(Vec<u16>),
    /// Closed; the origin sees nothing, or a request whose body never ends.
    Cut,
    /// The origin sees exactly these: method, target, body.
    Passes(Vec<(String, String, Vec<u8>)>),
}

/// All cases of the file.
///
/// # Panics
/// When the file is not as it should be.
pub fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(here().join("corpus/http1.txt")).expect("the corpus is there");
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(head) = line.strip_prefix("=== ") {
            let [name, hazard, verdict] = head.split(" | ").collect::<Vec<_>>()[..] else {
                panic!("not `NAME | HAZARD | VERDICT`: {line}");
            };
            cases.push(Case {
                name: name.to_owned(),
                word: format!("case-{:03}", cases.len()),
                hazard: hazard.parse().unwrap_or_else(|_| panic!("no number: {line}")),
                bytes: Vec::new(),
                verdict: Verdict::parse(verdict),
            });
            continue;
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("before the first case: {line}"));
        match (line.strip_prefix("-> "), &mut case.verdict) {
            (Some(seen), Verdict::Passes(requests)) => {
                let mut parts = seen.splitn(3, ' ').map(|part| bytes_of(part, &case.word));
                let mut text = || String::from_utf8(parts.next().unwrap_or_default()).expect("text");
                let (method, target) = (text(), text());
                requests.push((method, target, parts.next().unwrap_or_default()));
            }
            (Some(_), _) => panic!("only what passes is seen: {line}"),
            (None, _) => case.bytes.extend(bytes_of(line, &case.word)),
        }
    }
    cases
}

impl Verdict {
    fn parse(text: &str) -> Self {
        let mut words = text.split(' ');
        match words.next() {
            Some("refused") => Self::Refused(words.map(|word| word.parse().expect("a status")).collect()),
            Some("cut") => Self::Cut,
            Some("passes") => Self::Passes(Vec::new()),
            _ => panic!("no verdict: {text}"),
        }
    }
}

fn bytes_of(text: &str, word: &str) -> Vec<u8> {
    let text = text.replace("HOST", APP).replace("CASE", word);
    let (bytes, rest) = unescape(text.as_bytes());
    assert!(rest.is_empty(), "a brace too many: {text}");
    bytes
}

/// What the escapes stand for, up to a closing brace; and what follows that.
fn unescape(mut text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut bytes = Vec::new();
    while let [first, rest @ ..] = text {
        text = rest;
        match first {
            b'\\' => {
                let (escape, rest) = text.split_first().expect("something follows the backslash");
                text = rest;
                bytes.push(match escape {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'0' => 0,
                    b'\\' => b'\\',
                    b'x' => {
                        let (digits, rest) = text.split_at(2);
                        text = rest;
                        let digits = str::from_utf8(digits).expect("digits");
                        u8::from_str_radix(digits, 16).expect("two hexadecimal digits")
                    }
                    other => panic!("unknown escape {other}"),
                });
            }
            b'{' => {
                let star = text.iter().position(|&byte| byte == b'*').expect("a count and a star");
                let count = str::from_utf8(&text[..star]).ok().and_then(|count| count.parse().ok());
                let (inner, rest) = unescape(&text[star + 1..]);
                text = rest;
                bytes.extend(inner.repeat(count.expect("a count")));
            }
            b'}' => return (bytes, text),
            &byte => bytes.push(byte),
        }
    }
    (bytes, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_bytes_and_repetitions_nest() {
        assert_eq!(bytes_of(r"a\r\n\t\0\\\x80", ""), b"a\r\n\t\0\\\x80");
        assert_eq!(bytes_of(r"x{2*y{3*z}\n}!", ""), b"xyzzz\nyzzz\n!");
        assert_eq!(bytes_of("/CASE HOST", "case-000"), format!("/case-000 {APP}").as_bytes());
    }

    #[test]
    fn the_file_is_read_whole() {
        let cases = cases();
        assert!(cases.len() > 200 && cases.len() < 1000, "a word has three digits");
        assert!(cases.iter().all(|case| !case.bytes.is_empty()));
        assert!(cases.iter().all(|case| case.verdict != Verdict::Passes(Vec::new())));
    }
}
