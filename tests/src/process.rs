//! What the kernel knows about a process: memory, file descriptors, threads, CPU time.

use std::time::Duration;

/// One look at a process.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub resident_bytes: u64,
    /// Of these what no file backs: what the program itself asked for.
    pub anonymous_bytes: u64,
    pub descriptors: usize,
    pub threads: u64,
    /// User and system time of all threads so far.
    pub cpu: Duration,
}

impl Usage {
    /// # Panics
    /// When the process is gone.
    pub fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default()
        };
        Self {
            resident_bytes: field("VmRSS:") * 1024,
            anonymous_bytes: field("RssAnon:") * 1024,
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
            threads: field("Threads:"),
            cpu: cpu(pid),
        }
    }
}

/// CPU time of all threads, in nanoseconds precision where the kernel keeps it.
pub fn cpu(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos: u64 = tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next().and_then(|text| text.parse::<u64>().ok()))
        .sum();
    Duration::from_nanos(nanos)
}

/// CPU time of this process's threads of one name so far.
pub fn thread_cpu(name: &str) -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of_name = tasks
        .map(|task| task.path())
        .filter(|path| std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name));
    let nanos: u64 = of_name
        .filter_map(|path| std::fs::read_to_string(path.join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next().and_then(|text| text.parse::<u64>().ok()))
        .sum();
    Duration::from_nanos(nanos)
}
