//! The comparison: the same load on each way from a visitor to the same origin, several rounds interleaved.

pub mod contender;
pub mod load;
pub mod report;
pub mod wan;

/// The machine on which figures were measured, in a line.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |text| text.trim_start_matches([' ', '\t', ':']));
    let count = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    format!(
        "{count} x {model}, Linux {}, load before the run {}",
        kernel.trim(),
        load.split(' ').next().unwrap_or("?")
    )
}
