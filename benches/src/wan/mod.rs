//! Ours and its peers over lines as people have them: each row is a line, what runs over it, and what came of it.

mod contender;
mod ground;
mod measure;
mod neighbours;
mod row;
mod small;
mod still;
mod table;
mod transfers;

pub use contender::{Kind, Peer, Running};
pub use ground::Ground;
pub use measure::Measure;
pub use row::{Row, What, rows};
pub use table::{Figure, Table};
