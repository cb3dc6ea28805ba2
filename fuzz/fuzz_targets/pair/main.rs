//! Edge and connector together, in process: a hostile visitor's HTTP/2 frames and a hostile origin's answers, beside an
//! innocent visitor. Whatever they do:
//! - no byte of one visitor reaches another's request at the origin, nor a request that nobody made;
//! - no byte of the answer to one visitor reaches another;
//! - no request that may not be repeated is executed twice.
//!
//! ```text
//! attacker (frames of the input) ─┐                                  ┌─ origin over HTTP/1.1 (acts of the input)
//!                                 ├─ edge ═ QUIC ═ connector ─ rules ─┤
//! victim (well-formed, tagged)  ──┘                                  └─ origin over HTTP/2, cleartext (acts of the input)
//! ```
//! Every message carries the tag of who caused it ([`tags`]), so that a leak is a message with two tags.
#![no_main]

mod account;
mod attacker;
mod entrance;
mod origin;
mod origin_h1;
mod origin_h2;
mod rig;
mod tags;
mod victim;

use std::sync::atomic::{AtomicU64, Ordering};

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;

use crate::account::Seen;
use crate::rig::Rig;
use crate::tags::Tag;

/// One input: who does what.
#[derive(Arbitrary, Debug)]
struct Case {
    /// Which of the two origins all of it goes to.
    over_h2: bool,
    attack: List<attacker::Step>,
    h1: List<origin_h1::Act>,
    h2: List<origin_h2::Act>,
    /// The length of the victim's body.
    body: u16,
}

/// A few of something: arbitrary's own lists have one entry on the average.
#[derive(Debug)]
struct List<T>(Vec<T>);

const MAX_ENTRIES: usize = 4;

impl<'a, T: Arbitrary<'a>> Arbitrary<'a> for List<T> {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let count = input.int_in_range(0..=MAX_ENTRIES)?;
        (0..count).map(|_| T::arbitrary(input)).collect::<Result<_, _>>().map(Self)
    }
}

/// What an input is made longer to: enough for the longest case that matters.
const CASE_BYTES: usize = 2048;

/// A short input goes on with bytes made from itself, so that each is a whole case (FNV-1a, then xorshift).
fn whole(input: &[u8]) -> Vec<u8> {
    let mut state = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut bytes = input.to_vec();
    while bytes.len() < CASE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// Numbers the cases, so that a byte that turns up late is known for what it is.
static CASES: AtomicU64 = AtomicU64::new(0);

#[expect(clippy::await_holding_refcell_ref, reason = "cases run one after the other")]
async fn run(rig: &Rig, case: &Case) {
    let number = CASES.fetch_add(1, Ordering::Relaxed);
    let (host, victim) = match case.over_h2 {
        true => (rig::H2_HOST, &rig.victims.1),
        false => (rig::H1_HOST, &rig.victims.0),
    };
    let mut victim = victim.borrow_mut();
    // A connection to the origin that is kept is what a leak goes through.
    let warm = victim.fetch(&rig.entrance, Tag::victim(number, 0), "GET", 0).await;
    check_answer(&warm, Tag::victim(number, 0));
    rig.origins.begin(case);
    let mut attack = attacker::Attacker::connect(&rig.entrance, host).await;
    attack.play(&case.attack.0, host).await;
    let (posted, got) = (Tag::victim(number, 1), Tag::victim(number, 2));
    let post = victim.fetch(&rig.entrance, posted, "POST", case.body.into()).await;
    check_answer(&post, posted);
    let get = victim.fetch(&rig.entrance, got, "GET", 0).await;
    check_answer(&get, got);
    drop(attack);
    check_requests(&rig.origins.end().await, posted);
}

/// An answer names at most the one who asked.
fn check_answer(answer: &[u8], own: Tag) {
    for tag in tags::find(answer) {
        assert_eq!(
            tag,
            own,
            "the answer to {own:?} holds bytes of {tag:?}: {}",
            String::from_utf8_lossy(answer)
        );
    }
}

fn check_requests(seen: &[Seen], posted: Tag) {
    for request in seen {
        let mut tags = tags::find(&request.bytes);
        let first = tags.next();
        let other = tags.find(|tag| Some(*tag) != first);
        assert_eq!(other, None, "a request of {first:?} holds bytes of others: {request:?}");
        assert!(!request.head.contains(tags::SMUGGLED), "a body became a request: {request:?}");
    }
    let executed =
        |request: &&Seen| request.executed && request.tag() == Some(posted) && request.head.contains("POST");
    let count = seen.iter().filter(executed).count();
    assert!(count <= 1, "a POST was executed {count} times: {seen:?}");
}

fuzz_target!(|input: &[u8]| {
    let bytes = whole(input);
    let Ok(case) = Case::arbitrary(&mut Unstructured::new(&bytes)) else { return };
    rig::with(|runtime, rig| runtime.block_on(run(rig, &case)));
});
