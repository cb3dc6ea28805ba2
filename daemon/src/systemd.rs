//! What systemd is told, where it runs the process (`sd_notify`). Elsewhere nothing happens.

use sd_notify::NotifyState;

/// It serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Another process of the unit goes on in the place of this one, which is about to end.
pub fn main_pid(pid: i32) {
    if let Ok(pid) = u32::try_from(pid) {
        tell(&[NotifyState::MainPid(pid)]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd does not hear us");
    }
}
