//! A TUN device: what the kernel routes to it is read here, and what is written here the kernel receives.
#![expect(unsafe_code, reason = "a device is made by an ioctl, which has no safe form in std or rustix")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::ioctl::{Updater, ioctl};

const TUNSETIFF: rustix::ioctl::Opcode = 0x4004_54ca;
const IFF_TUN: u16 = 0x0001;
/// Packets come bare.
const IFF_NO_PI: u16 = 0x1000;

/// `struct ifreq`: a name and a union of 24 bytes, of which the flags are the first two.
#[repr(C, align(8))]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// A device, which goes away with its value.
#[derive(Debug)]
pub(super) struct Tun(File);

impl Tun {
    /// Makes a device in the namespace of the calling thread.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open("/dev/net/tun")?;
        let mut request = Request { name: [0; 16], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which `Request` has the size and layout of; the file is open.
        unsafe { ioctl(&file, Updater::<TUNSETIFF, Request>::new(&mut request)) }?;
        rustix::io::ioctl_fionbio(&file, true)?;
        Ok(Self(file))
    }

    /// The next packet. `None`: there is none now.
    pub(super) fn read<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let length = (&self.0).read(buffer).ok()?;
        Some(&buffer[..length])
    }

    /// Hands a packet to the kernel; a receiver that is not there any more loses it.
    pub(super) fn write(&self, packet: &[u8]) {
        let _ = (&self.0).write(packet);
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
