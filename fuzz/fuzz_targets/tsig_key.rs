//! Key files as people copy them: any text is refused or understood, and no message shows the secret.
#![no_main]

use causeway_acme::dns::key;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = key::parse(text).map_err(|error| error.to_string());
    // The text as the secret of a file that is right otherwise, up to what ends it.
    let secret: String = text.chars().filter(|c| !matches!(c, '"' | '\n' | ';' | '{' | '}')).collect();
    if let Err(error) = key::parse(&format!("key a {{ algorithm hmac-sha256; secret \"{secret}\"; }};")) {
        let message = error.to_string();
        let is_ours = key::parse("key a { algorithm hmac-sha256; secret \"!\"; };").is_err_and(|it| it.to_string() == message);
        assert!(secret.len() < 16 || is_ours || !message.contains(&secret), "the message quotes the secret");
    }
});
