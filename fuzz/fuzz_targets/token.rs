//! Tokens as people paste them: any text is refused or understood, what is understood round-trips, and nothing leaks.
#![no_main]

use causeway_tunnel::Token;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Token::parse(text) {
        Ok(token) => {
            let exposed = token.expose();
            let again = Token::parse(&exposed).expect("an exposed token parses");
            assert_eq!((again.tunnel, again.key_id, &again.edges), (token.tunnel, token.key_id, &token.edges));
            assert!(!format!("{token:?}").contains(exposed.as_str()));
        }
        Err(error) => {
            let message = error.to_string();
            assert!(text.len() < 16 || !message.contains(text), "the message quotes the text");
        }
    }
});
