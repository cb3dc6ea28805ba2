//! Requests as bytes, what becomes of them, and what different servers make of them: `tests/corpus/http1.txt`, played to the
//! edge and to its peers, with an origin behind each that keeps what reached it.

mod case;
mod peer;
mod play;
mod recorder;
mod table;

pub use case::{Case, Verdict, cases};
pub use peer::Peer;
pub use play::{Reading, play};
pub use recorder::{Recorder, Seen};
pub use table::table;
