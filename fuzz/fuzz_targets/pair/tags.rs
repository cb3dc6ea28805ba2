//! Who caused a message: marks that the input cannot make by chance, found in whatever bytes arrive.

/// The path that only a body asks for: a request for it was made of bytes that were none.
pub const SMUGGLED: &str = "/smuggled";

/// One visitor's one request; the attacker has one tag for all of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u64);

const ATTACKER: Tag = Tag(0);
const BEGIN: &[u8] = b"<causeway:";
const LENGTH: usize = BEGIN.len() + 17;

impl Tag {
    pub fn attacker() -> Self {
        ATTACKER
    }

    pub fn victim(case: u64, request: u64) -> Self {
        Self((case + 1) * 16 + request)
    }

    /// `<causeway:` and sixteen digits and `>`.
    pub fn text(self) -> String {
        format!("<causeway:{:016x}>", self.0)
    }

    /// `length` bytes of it.
    pub fn fill(self, length: usize) -> Vec<u8> {
        self.text().into_bytes().into_iter().cycle().take(length).collect()
    }
}

/// All whole tags in `bytes`.
pub fn find(bytes: &[u8]) -> impl Iterator<Item = Tag> + '_ {
    bytes.windows(LENGTH).filter(|window| window.starts_with(BEGIN)).filter_map(|window| {
        let digits = std::str::from_utf8(&window[BEGIN.len()..LENGTH - 1]).ok()?;
        u64::from_str_radix(digits, 16).ok().map(Tag)
    })
}
