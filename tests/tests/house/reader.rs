//! Rust text as words and signs: comments and tests left out, each token with its lines.

/// A token of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A name, a keyword or a number.
    Word(String),
    Sign(char),
    /// A string or a character: what it says is no code.
    Literal,
}

/// A token and the lines that it stands on.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl Placed {
    pub(crate) fn word(&self) -> Option<&str> {
        if let Token::Word(word) = &self.token { Some(word) } else { None }
    }

    pub(crate) fn is(&self, sign: char) -> bool {
        self.token == Token::Sign(sign)
    }

    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.word() == Some(word)
    }
}

/// The code of a file without what is compiled for tests only.
pub(crate) fn read(text: &str) -> Vec<Placed> {
    without_tests(&tokens(text))
}

pub(crate) fn tokens(text: &str) -> Vec<Placed> {
    let mut reader = Reader { rest: text, line: 1, tokens: Vec::new() };
    while !reader.rest.is_empty() {
        reader.step();
    }
    reader.tokens
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Placed>,
}

impl<'a> Reader<'a> {
    fn step(&mut self) {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.take(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.take(comment(rest));
        } else if let Some(length) = literal(rest) {
            let first = self.line;
            self.take(length);
            self.tokens.push(Placed { token: Token::Literal, first, last: self.line });
        } else if rest.starts_with(is_of_word) {
            let word = self.take(rest.find(|c| !is_of_word(c)).unwrap_or(rest.len())).to_owned();
            self.push(Token::Word(word));
        } else if let Some(sign) = rest.chars().next() {
            self.take(sign.len_utf8());
            if sign == '\'' {
                // A lifetime: no name that could lead anywhere.
                self.take(self.rest.find(|c| !is_of_word(c)).unwrap_or(self.rest.len()));
            } else if !sign.is_whitespace() {
                self.push(Token::Sign(sign));
            }
        }
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.line += taken.matches('\n').count();
        taken
    }

    fn push(&mut self, token: Token) {
        self.tokens.push(Placed { token, first: self.line, last: self.line });
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a comment that may hold others.
fn comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let here = &rest[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += here.chars().next().map_or(0, char::len_utf8);
        }
        if depth == 0 || at >= rest.len() {
            return at;
        }
    }
}

/// The length of a string or a character that begins here.
fn literal(rest: &str) -> Option<usize> {
    let prefix = rest.find(|c| !matches!(c, 'b' | 'c' | 'r')).filter(|length| *length <= 2)?;
    let (letters, body) = rest.split_at(prefix);
    if letters.contains('r') {
        let hashes = body.find(|c| c != '#')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let inside = body[hashes..].strip_prefix('"')?;
        return inside.find(&end).map(|length| prefix + hashes + 1 + length + end.len());
    }
    if body.starts_with('"') {
        return Some(prefix + closing(body, '"'));
    }
    let mut chars = body.strip_prefix('\'')?.chars();
    let (one, two) = (chars.next()?, chars.next()?);
    (one == '\\' || two == '\'').then(|| prefix + closing(body, '\''))
}

/// The length of a literal with escapes, its quotes included.
fn closing(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + quote.len_utf8(),
            _ => {}
        }
    }
    body.len()
}

/// Drops each item that an attribute gives to tests alone.
fn without_tests(tokens: &[Placed]) -> Vec<Placed> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let end = attribute(&tokens[at..]).map(|length| at + length);
        match end {
            Some(end) if is_for_tests(&tokens[at..end]) => at = item(tokens, end),
            Some(end) => {
                kept.extend_from_slice(&tokens[at..end]);
                at = end;
            }
            None => {
                kept.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    kept
}

/// The length of an outer attribute that begins here.
fn attribute(tokens: &[Placed]) -> Option<usize> {
    (tokens.first()?.is('#') && tokens.get(1)?.is('[')).then(|| 1 + group(&tokens[1..]))
}

fn is_for_tests(attribute: &[Placed]) -> bool {
    let is_cfg = attribute.get(2).is_some_and(|token| token.is_word("cfg"));
    let negated = attribute.iter().any(|token| token.is_word("not"));
    is_cfg && !negated && attribute.iter().any(|token| token.is_word("test"))
}

/// Where the item ends that begins at `at`, perhaps with further attributes.
fn item(tokens: &[Placed], mut at: usize) -> usize {
    while let Some(length) = attribute(&tokens[at..]) {
        at += length;
    }
    while let Some(token) = tokens.get(at) {
        match token.token {
            // A field or a variant ends at its comma, and the last one at what closes the list.
            Token::Sign(';' | ',') => return at + 1,
            Token::Sign('}' | ')') => return at,
            Token::Sign('{') => return at + group(&tokens[at..]),
            Token::Sign('(' | '[') => at += group(&tokens[at..]),
            _ => at += 1,
        }
    }
    at
}

/// The length of the group that the first token opens.
pub(crate) fn group(tokens: &[Placed]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}
