//! A household's share of each tunnel: at most as many streams as are free there after it.
//!
//! The bound moves with the load, as shared switch buffers do it (Choudhury and Hahne's dynamic thresholds): alone, one
//! household may have half of a tunnel's streams; of N that want all, each ends with 1/(N+1), and as much stays free
//! for whoever comes next.

use causeway_tunnel::TunnelId;

use super::Ticket;

/// Streams held, by tunnel. A household seldom visits more than a few.
#[derive(Debug, Default)]
pub(super) struct Shares(Vec<(TunnelId, usize)>);

impl Shares {
    fn take(&mut self, tunnel: TunnelId, free: usize, is_bound: bool) -> bool {
        match self.0.iter_mut().find(|(held, _)| *held == tunnel) {
            Some((_, count)) if is_bound && *count >= free => return false,
            Some((_, count)) => *count += 1,
            None if is_bound && free == 0 => return false,
            None => self.0.push((tunnel, 1)),
        }
        true
    }

    pub(super) fn give_back(&mut self, tunnel: TunnelId) {
        let Some(at) = self.0.iter().position(|(held, _)| *held == tunnel) else { return };
        self.0[at].1 -= 1;
        if self.0[at].1 == 0 {
            self.0.swap_remove(at);
        }
    }
}

impl Ticket {
    /// Takes a stream of a tunnel that has `free` left. False: the household has its share. To be called once.
    pub fn take_share(&mut self, tunnel: TunnelId, free: usize) -> bool {
        let is_bound = !self.household.key.is_proxy;
        if !self.household.held.lock().shares.take(tunnel, free, is_bound) {
            return false;
        }
        self.tunnel = Some(tunnel);
        true
    }
}
