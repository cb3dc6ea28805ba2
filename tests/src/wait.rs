//! Waiting for an event that no channel tells: asks again and again, under a deadline, and says what was asked for.

use std::future::Future;
use std::time::{Duration, Instant};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until `look` sees something, and says how long it took.
///
/// # Panics
/// When nothing was seen within the deadline.
pub async fn until<T, F, Fut>(what: &str, within: Duration, mut look: F) -> (T, Duration)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let since = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return (seen, since.elapsed());
        }
        assert!(since.elapsed() < within, "not seen within {within:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// [`until`] for a plain condition.
///
/// # Panics
/// When the condition did not hold within the deadline.
pub async fn holds(what: &str, within: Duration, mut look: impl FnMut() -> bool) -> Duration {
    until(what, within, || std::future::ready(look().then_some(()))).await.1
}
