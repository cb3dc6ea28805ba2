//! A unix socket with an owner: private from its first moment, never taken from a live process, gone at the end.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Removes the socket's file when dropped, unless another process has put its own there meanwhile.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Listens on a socket that its owner alone may use. A file left behind by a dead process is replaced.
///
/// # Errors
/// When a live process answers there, something else has the name, or the folder refuses it; the text names the mend.
pub fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    place(path, false)
}

/// The same in the place of a live process, which keeps who is connected already.
///
/// # Errors
/// When something else has the name, or the folder refuses it.
pub fn replace(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    place(path, true)
}

fn place(path: &Path, is_successor: bool) -> io::Result<(UnixListener, SocketFile)> {
    let refuse = |kind, text: String| {
        Err(io::Error::new(kind, format!("cannot listen on {}: {text}", path.display())))
    };
    if path.as_os_str().len() > MAX_PATH_BYTES {
        let text =
            format!("the path of a socket has at most {MAX_PATH_BYTES} bytes; choose a shorter folder");
        return refuse(io::ErrorKind::InvalidInput, text);
    }
    match occupant(path)? {
        Occupant::Nobody => {}
        Occupant::Alive if is_successor => {}
        Occupant::Alive => {
            return refuse(
                io::ErrorKind::AddrInUse,
                "another process answers there; stop it first".to_owned(),
            );
        }
        Occupant::NoSocket => {
            let text = "a file that is no socket has this name; move it away".to_owned();
            return refuse(io::ErrorKind::AlreadyExists, text);
        }
        Occupant::Unknown(error) => {
            let text = format!(
                "cannot tell whether another process answers there ({error}); remove the file if none does"
            );
            return refuse(error.kind(), text);
        }
    }
    listen(path).or_else(|error| refuse(error.kind(), error.to_string()))
}

enum Occupant {
    Nobody,
    Alive,
    NoSocket,
    Unknown(io::Error),
}

fn occupant(path: &Path) -> io::Result<Occupant> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Nobody),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Ok(Occupant::NoSocket);
    }
    Ok(match UnixStream::connect(path) {
        Ok(_) => Occupant::Alive,
        // Its process is dead, or it went away just now.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            Occupant::Nobody
        }
        Err(error) => Occupant::Unknown(error),
    })
}

/// Binds under a name of its own, makes that private, and only then moves it to its place, over a dead one: nobody
/// can connect before the permissions are right, and clients see the old or the new socket, never none.
fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let temporary = path.with_file_name(format!(".{:08x}", rand::random::<u32>()));
    let listener = StdListener::bind(&temporary)?;
    let placed = fs::set_permissions(&temporary, Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| fs::symlink_metadata(path));
    let metadata = placed.inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    listener.set_nonblocking(true)?;
    let file = SocketFile { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() };
    Ok((UnixListener::from_std(listener)?, file))
}

impl SocketFile {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|it| it.dev() == self.device && it.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket's file");
        }
    }
}

/// `sun_path` has 108 bytes with its end; the temporary name of 9 bytes may be longer than the socket's own.
const MAX_PATH_BYTES: usize = 98;
