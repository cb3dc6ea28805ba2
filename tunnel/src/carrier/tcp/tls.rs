//! TLS of a connection, which the library owns, and which is still asked for its exporter: its context comes with the first message.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use super::socket::Socket;
use crate::carrier::Exporter;

/// What TLS takes before the socket does.
const BUFFER_BYTES: usize = 64 * 1024;

/// The library's. Dropped, it closes the socket.
pub(super) struct Tls(Arc<Mutex<Option<TlsStream<Socket>>>>);

/// For who asks.
pub(super) struct Secrets(Arc<Mutex<Option<TlsStream<Socket>>>>);

pub(super) fn split(mut stream: TlsStream<Socket>) -> (Tls, Secrets) {
    match &mut stream {
        TlsStream::Client(stream) => stream.get_mut().1.set_buffer_limit(Some(BUFFER_BYTES)),
        TlsStream::Server(stream) => stream.get_mut().1.set_buffer_limit(Some(BUFFER_BYTES)),
    }
    let both = Arc::new(Mutex::new(Some(stream)));
    (Tls(Arc::clone(&both)), Secrets(both))
}

impl Secrets {
    /// Of a connection that has ended, nothing that the peer would know.
    pub(super) fn exporter(&self, label: &[u8], context: &[u8]) -> Exporter {
        let stream = self.0.lock();
        let Some(stream) = &*stream else { return rand::random() };
        let exported = match stream {
            TlsStream::Client(stream) => {
                stream.get_ref().1.export_keying_material([0; 32], label, Some(context))
            }
            TlsStream::Server(stream) => {
                stream.get_ref().1.export_keying_material([0; 32], label, Some(context))
            }
        };
        exported.expect("32 bytes can be exported from a finished TLS 1.3 handshake")
    }
}

impl Tls {
    fn poll<T>(
        &self,
        poll: impl FnOnce(Pin<&mut TlsStream<Socket>>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *self.0.lock() {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let stream = self.0.lock().take();
        drop(stream);
    }
}

impl AsyncRead for Tls {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Tls {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}
