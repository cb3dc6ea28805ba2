//! Looks for bytes in the memory of a process and in the files of a folder.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What is read at once; pieces overlap by the length of what is looked for.
const PIECE_BYTES: usize = 1 << 20;

/// Whether a process has these bytes anywhere in memory that it may write.
///
/// # Panics
/// When its memory may not be read: then nothing is known, and nothing may be claimed.
pub fn holds(pid: u32, needle: &[u8]) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process lives");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("the memory of an own child can be read");
    let (mut read, mut found) = (0_u64, false);
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")))
    {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let (from, to) = range.expect("a range of addresses");
        let address = |text: &str| u64::from_str_radix(text, 16).expect("an address");
        let (mut at, to) = (address(from), address(to));
        let mut piece = vec![0; PIECE_BYTES + needle.len()];
        while at < to {
            let most = usize::try_from(to - at).unwrap_or(usize::MAX).min(piece.len());
            // Some mappings are of devices, and cannot be read.
            let Ok(count) = memory.read_at(&mut piece[..most], at) else { break };
            read += count as u64;
            found |= contains(&piece[..count], needle);
            if count < most || count <= needle.len() {
                break;
            }
            at += (count - needle.len()) as u64;
            if at + needle.len() as u64 >= to {
                break;
            }
        }
    }
    assert!(read > 1 << 20, "only {read} bytes of memory could be read");
    found
}

/// Whether a file below a folder has these bytes.
///
/// # Panics
/// When the folder cannot be read.
pub fn on_disk(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").path())
        .any(|path| {
            if path.is_dir() {
                return on_disk(&path, needle);
            }
            // Sockets are files too.
            std::fs::read(&path).is_ok_and(|bytes| contains(&bytes, needle))
        })
}

/// Whether `needle` is in it.
pub fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle).is_some()
}
