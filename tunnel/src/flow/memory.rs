//! How much memory this process may have: what its cgroup allows, or the machine has.

use std::fs::read_to_string;
use std::path::Path;

/// The least of what is known; `None` when nothing is.
pub fn available() -> Option<usize> {
    let read = |path: &Path| read_to_string(path).ok();
    let machine = read("/proc/meminfo".as_ref()).and_then(|text| total(&text));
    let group = read("/proc/self/cgroup".as_ref()).unwrap_or_default();
    least(machine, &group, read)
}

fn least(machine: Option<usize>, group: &str, read: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let mut least = machine;
    let mut look = |path: &Path| {
        // `max`, and the first version's word for no limit, are larger than any machine.
        let limit = read(path).and_then(|text| text.trim().parse().ok());
        least = least.into_iter().chain(limit).min();
    };
    for line in group.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(own)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        // A group is bound by all above it. In a container its own path may not be there, but the root is.
        for above in Path::new(own.trim_start_matches('/')).ancestors() {
            look(&Path::new(root).join(above).join(file));
        }
    }
    least
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_above_decides_and_no_limit_is_none() {
        let files = |path: &Path| match path.to_str()? {
            "/sys/fs/cgroup/memory.max" => Some("max\n".to_owned()),
            "/sys/fs/cgroup/a/memory.max" => Some("536870912\n".to_owned()),
            "/sys/fs/cgroup/a/b/memory.max" => Some("max\n".to_owned()),
            "/sys/fs/cgroup/memory/memory.limit_in_bytes" => Some("1073741824\n".to_owned()),
            _ => None,
        };
        let machine = total("MemFree: 1 kB\nMemTotal:       8000000 kB\n");
        assert_eq!(machine, Some(8_192_000_000));
        assert_eq!(least(machine, "0::/a/b\n", files), Some(536_870_912));
        assert_eq!(least(machine, "0::/\n", files), machine);
        assert_eq!(least(machine, "4:cpu:/x\n3:memory:/x\n", files), Some(1_073_741_824));
        assert_eq!(least(None, "", files), None);
    }
}
