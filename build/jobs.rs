//! How many files are compiled side by side.

/// What one architecture of one file may need at its peak: *measured* 1.7 GB for a kernel that includes CuTe, and room
/// for files with more instantiations.
pub const PEAK_BYTES: u64 = 2560 << 20;

/// Compilations that may run at the same time, at least one.
pub fn slots(cores: usize, available_bytes: Option<u64>) -> usize {
    let by_memory = available_bytes.map_or(usize::MAX, |bytes| (bytes / PEAK_BYTES) as usize);
    cores.min(by_memory).max(1)
}

/// Bytes that a process may still take: what the kernel says is available, and what the control group leaves.
pub fn available_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| mem_available(&text));
    let group = read("/sys/fs/cgroup/memory.max")
        .zip(read("/sys/fs/cgroup/memory.current"))
        .and_then(|(max, current)| group_left(&max, &current));
    machine.into_iter().chain(group).min()
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
pub fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// What a control group's `memory.max` leaves beside `memory.current`; none where the limit is `max`.
pub fn group_left(max: &str, current: &str) -> Option<u64> {
    let max: u64 = max.trim().parse().ok()?;
    Some(max.saturating_sub(current.trim().parse().ok()?))
}
