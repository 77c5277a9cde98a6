//! The resident memory of this process.

/// Returns the largest resident memory since the start or the last [`reset_peak_memory`], in bytes.
/// `None` where the system does not report it; only Linux does.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kib)
}

/// Forgets the peak. Where that is not possible, the peak of the whole run stays.
pub fn reset_peak_memory() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
