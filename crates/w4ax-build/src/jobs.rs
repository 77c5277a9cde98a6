//! The number of files that are compiled at the same time.

/// Peak memory of one architecture of one file: 1.7 GB were measured for a kernel that includes
/// CuTe, plus a margin for files with more instantiations.
pub const PEAK_BYTES: u64 = 2560 << 20;

/// Returns the number of compilations that may run at the same time, at least one.
pub fn slots(cores: usize, available_bytes: Option<u64>) -> usize {
    let by_memory = available_bytes.map_or(usize::MAX, |bytes| (bytes / PEAK_BYTES) as usize);
    cores.min(by_memory).max(1)
}

/// Returns the memory that a process may still use, in bytes: the smaller of the machine's
/// available memory and the rest of the control group's limit.
pub fn available_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| mem_available(&text));
    let group = read("/sys/fs/cgroup/memory.max")
        .zip(read("/sys/fs/cgroup/memory.current"))
        .and_then(|(max, current)| group_left(&max, &current));
    machine.into_iter().chain(group).min()
}

/// Returns `MemAvailable` of `/proc/meminfo`, in bytes.
pub fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Returns the difference of a control group's `memory.max` and `memory.current`; `None` if the
/// limit is `max`.
pub fn group_left(max: &str, current: &str) -> Option<u64> {
    let max: u64 = max.trim().parse().ok()?;
    Some(max.saturating_sub(current.trim().parse().ok()?))
}
