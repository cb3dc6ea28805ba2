//! The streams on which the visitor alone sends: its control stream, and those of a field table that we do not have
//! (RFC 9114 §6.2, RFC 9204 §4.2).

use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use causeway_tunnel::guest::{Broken, Receiver};

use super::code::{self, Fault};
use super::frames::{Frame, Frames, On};
use super::qpack::integer;
use super::shared::Shared;
use super::varint;

const CONTROL: u64 = 0x0;
const PUSH: u64 = 0x1;
const ENCODER: u64 = 0x2;
const DECODER: u64 = 0x3;

const CLOSED: Fault =
    Fault::new(code::CLOSED_CRITICAL_STREAM, "a stream was closed that lives as long as its connection");

/// Follows one stream to its end.
pub(super) async fn follow(receiver: Receiver, shared: Arc<Shared>) {
    let mut stream = Stream { receiver, came: VecDeque::new() };
    if let Err(Stop::Fault(fault)) = read(&mut stream, &shared).await {
        shared.fail(fault);
    }
}

/// Why nothing more is read.
enum Stop {
    Fault(Fault),
    /// The connection is gone, or nobody knows what the stream is for.
    Quiet,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

struct Stream {
    receiver: Receiver,
    came: VecDeque<Bytes>,
}

impl Stream {
    /// The next bytes, at least one. None: the stream was ended or reset.
    async fn bytes(&mut self) -> Result<Option<Bytes>, Stop> {
        loop {
            if let Some(bytes) = self.came.pop_front() {
                if !bytes.is_empty() {
                    return Ok(Some(bytes));
                }
                continue;
            }
            let Self { receiver, came } = self;
            match poll_fn(|cx| receiver.poll_read(cx, |chunk| came.push_back(chunk))).await {
                Ok(true) => {}
                Ok(false) | Err(Broken::ByPeer) => return Ok(None),
                Err(Broken::Lost) => return Err(Stop::Quiet),
            }
        }
    }
}

async fn read(stream: &mut Stream, shared: &Shared) -> Result<(), Stop> {
    // A stream costs the visitor little, and ends as it likes before it has said what it is for.
    shared.cheap();
    let mut said = Vec::new();
    let kind = loop {
        if let Some(kind) = varint::take(&mut &said[..]) {
            break kind;
        }
        let Some(mut bytes) = stream.bytes().await? else { return Ok(()) };
        said.extend_from_slice(&bytes.split_to(1));
        stream.came.push_front(bytes);
    };
    match kind {
        CONTROL => {
            shared.claim(kind)?;
            control(stream, shared).await
        }
        ENCODER | DECODER => {
            shared.claim(kind)?;
            instructions(stream, shared, kind).await
        }
        PUSH => Err(Fault::new(code::STREAM_CREATION_ERROR, "a visitor cannot push").into()),
        _ => {
            stream.receiver.stop(code::STREAM_CREATION_ERROR);
            Ok(())
        }
    }
}

async fn control(stream: &mut Stream, shared: &Shared) -> Result<(), Stop> {
    let mut frames = Frames::new(On::Control);
    let (mut most_pushes, mut go_away) = (0, u64::MAX);
    while let Some(mut bytes) = stream.bytes().await? {
        while let Some(frame) = frames.next(&mut bytes)? {
            match frame {
                Frame::Settings(payload) => settings(&payload, shared)?,
                Frame::MaxPushId(id) if id < most_pushes => {
                    return Err(Fault::new(code::ID_ERROR, "MAX_PUSH_ID went down").into());
                }
                Frame::MaxPushId(id) => most_pushes = id,
                Frame::GoAway(id) if id > go_away => {
                    return Err(Fault::new(code::ID_ERROR, "GOAWAY went up").into());
                }
                // It wants no more pushes: there are none.
                Frame::GoAway(id) => go_away = id,
                Frame::CancelPush(_) => {
                    return Err(Fault::new(code::ID_ERROR, "nothing was pushed").into());
                }
                Frame::Headers(_) | Frame::Data(_) | Frame::Unknown => {}
            }
            shared.cheap();
        }
    }
    Err(CLOSED.into())
}

const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;

fn settings(mut payload: &[u8], shared: &Shared) -> Result<(), Fault> {
    let mut seen = HashSet::new();
    while !payload.is_empty() {
        let cut = Fault::new(code::FRAME_ERROR, "SETTINGS that are cut off");
        let name = varint::take(&mut payload).ok_or(cut)?;
        let value = varint::take(&mut payload).ok_or(cut)?;
        if !seen.insert(name) {
            return Err(Fault::new(code::SETTINGS_ERROR, "a setting comes twice"));
        }
        match name {
            // HTTP/2's (RFC 9114 §7.2.4.1).
            0x0 | 0x2..=0x5 => return Err(Fault::new(code::SETTINGS_ERROR, "a setting of HTTP/2")),
            ENABLE_CONNECT_PROTOCOL if value > 1 => {
                return Err(Fault::new(code::SETTINGS_ERROR, "a setting that is neither on nor off"));
            }
            MAX_FIELD_SECTION_SIZE => shared.set_max_head_bytes(value),
            _ => {}
        }
    }
    Ok(())
}

/// An instruction has at most a byte of marks and an integer.
const MAX_INSTRUCTION_BYTES: usize = 16;

/// Reads what may be said of a table of no bytes: next to nothing.
async fn instructions(stream: &mut Stream, shared: &Shared, kind: u64) -> Result<(), Stop> {
    let refused = match kind {
        ENCODER => Fault::new(code::ENCODER_STREAM_ERROR, "there is no dynamic table"),
        _ => Fault::new(code::DECODER_STREAM_ERROR, "nothing was said of a dynamic table"),
    };
    let mut said = Vec::new();
    while let Some(bytes) = stream.bytes().await? {
        said.extend_from_slice(&bytes);
        let mut rest = &said[..];
        while let Some(first) = rest.first() {
            let (is_borne, bits) = match (kind, first) {
                // Set Dynamic Table Capacity, and Stream Cancellation.
                (ENCODER, 0x20..=0x3f) => (true, 5),
                (DECODER, 0x40..=0x7f) => (true, 6),
                _ => (false, 6),
            };
            if !is_borne {
                return Err(refused.into());
            }
            let Some(value) = integer(&mut rest, bits) else { break };
            if kind == ENCODER && value > 0 {
                return Err(refused.into());
            }
            shared.cheap();
        }
        let left = rest.len();
        if left > MAX_INSTRUCTION_BYTES {
            return Err(refused.into());
        }
        said.drain(..said.len() - left);
    }
    Err(CLOSED.into())
}
