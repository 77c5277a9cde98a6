//! The memory that a model needs, and whether the machine has it.

use crate::{Result, VlaError};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// The bytes that a model needs, by part. They are computed from shapes before anything is loaded.
///
/// ```
/// use w4ax_vla::checkpoint::MemoryPlan;
/// # fn main() -> w4ax_vla::Result<()> {
/// let plan = MemoryPlan::new()
///     .add("vision", 1_500_000)
///     .add("KV cache", 150_000);
/// assert_eq!(plan.total(), 1_650_000);
/// plan.check("the model")?; // An error if less than that is available.
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    parts: Vec<(String, u64)>,
}

impl MemoryPlan {
    /// Returns a plan without parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the bytes of a part. Bytes of the same part add up.
    #[must_use]
    pub fn add(mut self, part: impl Into<String>, bytes: u64) -> Self {
        let part = part.into();
        match self.parts.iter_mut().find(|(name, _)| *name == part) {
            Some((_, sum)) => *sum = sum.saturating_add(bytes),
            None => self.parts.push((part, bytes)),
        }
        self
    }

    /// Returns the parts and their bytes, in the order in which they were added.
    pub fn parts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.parts
            .iter()
            .map(|(name, bytes)| (name.as_str(), *bytes))
    }

    /// Returns the bytes of all parts.
    pub fn total(&self) -> u64 {
        let bytes = self.parts.iter().map(|(_, bytes)| *bytes);
        bytes.fold(0, u64::saturating_add)
    }

    /// Checks the plan against [`available_memory`]. `what` names the model in the error.
    ///
    /// # Errors
    /// [`VlaError::Memory`] if the plan needs more than is available.
    pub fn check(&self, what: &str) -> Result<()> {
        self.check_against(what, available_memory())
    }

    /// Checks the plan against a number of bytes.
    ///
    /// # Errors
    /// [`VlaError::Memory`] if the plan needs more.
    pub fn check_against(&self, what: &str, available: u64) -> Result<()> {
        let needed = self.total();
        if needed <= available {
            return Ok(());
        }
        let mut parts: Vec<(&str, u64)> = self.parts().filter(|(_, bytes)| *bytes > 0).collect();
        parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let parts = parts
            .iter()
            .map(|(name, bytes)| format!("{name} {} MB", bytes.div_ceil(1_000_000)))
            .collect::<Vec<_>>();
        Err(VlaError::Memory {
            what: format!("{what} ({})", parts.join(", ")),
            needed,
            available,
        })
    }
}

/// Returns the bytes of memory that a program can use without swapping: what the system has, or
/// what the limit of the process's control group leaves if that is less.
///
/// The page cache of a control group does not count as used, because the system reclaims it.
pub fn available_memory() -> u64 {
    let memory = MemoryRefreshKind::nothing().with_ram();
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory));
    let available = system.available_memory();
    system.cgroup_limits().map_or(available, |limits| {
        available.min(limits.total_memory.saturating_sub(limits.rss))
    })
}
