//! A stream in both directions, whatever it is made of.

use tokio::io::{AsyncRead, AsyncWrite};

/// A stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Duplex for T {}
