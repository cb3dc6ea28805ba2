//! The queue between whoever logs and standard error: a reader that has stopped reading never stops traffic.
//!
//! ```text
//! any thread ──push──▶ waiting (at most MAX_WAITING_BYTES) ──▶ thread "log" ──write──▶ standard error
//!                        full: dropped and counted; the number is written once when it flows again
//! ```
//! Lines stay in order: once one was dropped, those after it are too until the thread comes for more.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// What may wait, in whole lines: some 3,000 of the access log, a second of a busy edge. As much again may be on its
/// way out. Bytes bound the number of lines too.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// A buffer that a burst has grown beyond this is given back.
const KEPT_BYTES: usize = 64 * 1024;
/// Between tries at a pipe that whoever started us made non-blocking: nothing tells when it has room again.
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// Takes whole lines and never waits. Clones are the same queue.
#[derive(Clone, Debug)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// Everything was written.
    emptied: Condvar,
    /// Since the start.
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    lines: u64,
    /// Dropped since the thread came last; none is taken in until it comes again.
    dropped: u64,
    /// The thread holds lines that are not written yet.
    is_writing: bool,
}

impl Queue {
    /// Starts the thread, which ends with the process. `note` is the line that says how many were dropped.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        note: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Self(Arc::new(Shared {
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            dropped: AtomicU64::new(0),
        }));
        let shared = Arc::clone(&queue.0);
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write(out, note))?;
        Ok(queue)
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.0.state.lock();
        if state.dropped > 0 || state.waiting.len() + line.len() > MAX_WAITING_BYTES {
            state.dropped += 1;
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(line);
        state.lines += 1;
        drop(state);
        self.0.filled.notify_one();
    }

    /// How many lines were dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what was logged so far is written, or `limit` is over.
    pub(super) fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut state = self.0.state.lock();
        while state.lines > 0 || state.dropped > 0 || state.is_writing {
            if self.0.emptied.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }
}

impl Shared {
    fn write(&self, mut out: impl Write, note: impl Fn(u64) -> String) {
        let mut batch = Vec::new();
        loop {
            let (lines, dropped) = self.next(&mut batch);
            if dropped > 0 {
                batch.extend_from_slice(note(dropped).as_bytes());
            }
            if write_all(&mut out, &batch).is_err() {
                // Nobody can read it any more: that it is missing shows in the metric alone.
                self.dropped.fetch_add(lines, Ordering::Relaxed);
            }
            batch.clear();
            batch.shrink_to(KEPT_BYTES);
        }
    }

    /// Waits for lines and puts them into `batch`. Returns their number, and how many after them were dropped.
    fn next(&self, batch: &mut Vec<u8>) -> (u64, u64) {
        let mut state = self.state.lock();
        state.is_writing = false;
        while state.lines == 0 && state.dropped == 0 {
            self.emptied.notify_all();
            self.filled.wait(&mut state);
        }
        state.is_writing = true;
        std::mem::swap(&mut state.waiting, batch);
        (std::mem::take(&mut state.lines), std::mem::take(&mut state.dropped))
    }
}

fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::park_timeout(RETRY_EVERY),
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

impl Write for Queue {
    /// One whole line a call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::{MAX_WAITING_BYTES, Queue};

    const SOON: Duration = Duration::from_secs(10);

    fn note(dropped: u64) -> String {
        format!("{dropped} dropped\n")
    }

    /// Writes nothing before the test says so, like a pipe that nobody reads.
    struct Shut {
        gate: Option<mpsc::Receiver<()>>,
        out: io::PipeWriter,
    }

    impl Write for Shut {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(gate) = self.gate.take() {
                let _ = gate.recv();
            }
            self.out.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A full queue whose thread is stuck in its first write, and how many lines both of them took. Dropping the gate
    /// opens it.
    fn stalled() -> (Queue, io::PipeReader, usize, mpsc::Sender<()>) {
        let (reader, out) = io::pipe().unwrap();
        let (open, gate) = mpsc::channel();
        let queue = Queue::start(Shut { gate: Some(gate), out }, note).unwrap();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        queue.push(&line);
        while queue.0.state.lock().lines > 0 {
            std::thread::yield_now();
        }
        let mut pushed = 1;
        while queue.dropped() == 0 {
            queue.push(&line);
            pushed += 1;
        }
        assert_eq!(pushed, 2 + MAX_WAITING_BYTES / 1024);
        (queue, reader, pushed - 1, open)
    }

    #[test]
    fn nobody_who_logs_waits_for_a_reader_that_reads_nothing() {
        let (queue, _reader, _, _shut) = stalled();
        let began = Instant::now();
        for _ in 0..100_000 {
            queue.push(b"one more\n");
        }
        assert!(began.elapsed() < SOON);
        assert_eq!(queue.dropped(), 100_001);
    }

    #[test]
    fn what_was_dropped_is_said_once_in_its_place_when_it_flows_again() {
        let (queue, mut reader, pushed, open) = stalled();
        queue.push(b"lost\n");
        drop(open);
        let (seen, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let mut buffer = [0; 4096];
            while !text.ends_with("after\n") {
                let count = reader.read(&mut buffer).unwrap();
                text.push_str(str::from_utf8(&buffer[..count]).unwrap());
            }
            seen.send(text).unwrap();
        });
        queue.flush(SOON);
        queue.push(b"after\n");
        let text = lines.recv_timeout(SOON).unwrap();
        let told: Vec<_> = text.lines().skip_while(|line| line.starts_with('x')).collect();
        assert_eq!(told, ["2 dropped", "after"]);
        assert_eq!(text.lines().filter(|line| line.starts_with('x')).count(), pushed);
    }

    #[test]
    fn lines_are_written_in_their_order_and_a_flush_waits_for_them() {
        let (mut reader, writer) = io::pipe().unwrap();
        let queue = Queue::start(writer, note).unwrap();
        let expected: String = (0..1000).map(|n| format!("{n}\n")).collect();
        let reading = std::thread::spawn(move || {
            let mut bytes = vec![0; (0..1000).map(|n| format!("{n}\n").len()).sum()];
            reader.read_exact(&mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        });
        for n in 0..1000 {
            write!(queue.clone(), "{n}").and_then(|()| queue.clone().write_all(b"\n")).unwrap();
        }
        queue.flush(SOON);
        assert_eq!(reading.join().unwrap(), expected);
    }

    #[test]
    fn the_last_flush_cannot_hang() {
        let (queue, _reader, _, _shut) = stalled();
        let began = Instant::now();
        queue.flush(Duration::from_millis(50));
        assert!(began.elapsed() < SOON);
    }

    #[test]
    fn a_reader_that_is_gone_is_counted_and_holds_up_nobody() {
        let (reader, writer) = io::pipe().unwrap();
        let queue = Queue::start(writer, note).unwrap();
        drop(reader);
        queue.push(b"nobody reads this\n");
        queue.flush(SOON);
        assert_eq!(queue.dropped(), 1);
    }

    #[test]
    fn a_pipe_that_was_made_non_blocking_loses_no_part_of_a_line() {
        /// Takes one byte, then has no room, in turns.
        struct Fitful(mpsc::Sender<u8>, bool);
        impl Write for Fitful {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                self.0.send(bytes[0]).map_err(io::Error::other)?;
                Ok(1)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sender, bytes) = mpsc::channel();
        let queue = Queue::start(Fitful(sender, false), note).unwrap();
        queue.push(b"whole\n");
        queue.flush(SOON);
        assert_eq!(bytes.try_iter().collect::<Vec<_>>(), b"whole\n");
    }
}
