//! Tokens and public keys as people paste them: any text is refused or understood, what is understood round-trips, and
//! nothing leaks.
#![no_main]

use causeway_tunnel::{PublicKey, Token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    match Token::parse(text) {
        Ok(token) => {
            let exposed = token.expose();
            let again = Token::parse(&exposed).expect("an exposed token parses");
            assert_eq!(
                (again.tunnel, again.key_id, &again.edges),
                (token.tunnel, token.key_id, &token.edges)
            );
            assert!(!format!("{token:?}").contains(exposed.as_str()));
        }
        Err(error) => {
            let message = error.to_string();
            // A text may be a piece of our own words: those stay the same for another text of its kind.
            let is_ours = || {
                others(text)
                    .any(|other| Token::parse(&other).is_err_and(|error| error.to_string() == message))
            };
            assert!(text.len() < 16 || !message.contains(text) || is_ours(), "the message quotes the text");
        }
    }
});

/// Texts that are wrong in the same way, most likely.
fn others(text: &str) -> impl Iterator<Item = String> {
    [format!("!{text}"), format!("{text}!"), text.replace('_', "_!")].into_iter()
}
