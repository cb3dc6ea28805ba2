//! What nameservers send: any bytes are refused or read, a signature that is not of the key is never taken, and whatever
//! stands in a TXT record is judged.
#![no_main]

use causeway_acme::dns::answer;
use causeway_acme::dns::key::{Algorithm, Key};
use causeway_acme::dns::persist::Persist;
use causeway_daemon::config::Secret;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut asked = Message::query();
    asked.metadata.id = 0x6161;
    asked.add_query(Query::query(Name::from_ascii("a.test.").expect("a name"), RecordType::TXT));
    let secret = Secret::new("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    let key = Key::new("k", Algorithm::HmacSha256, &secret).expect("a key");
    let mut verifier = key.sign(&mut asked, 1_000_000);
    let _ = answer::read(&asked, bytes);
    assert!(answer::read_signed(&asked, &mut verifier, bytes).is_err(), "a signature was guessed");

    let text = String::from_utf8_lossy(bytes);
    let record = Persist::new("*.a.test", "ca.test", "https://ca.test/1", None).expect("a record");
    let _ = record.judge(&[text.clone(), format!("ca.test;{text}").into()], 1_000_000);
});
