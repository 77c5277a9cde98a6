//! Version numbers in the formats of the tools.

/// A version number. It is compared field by field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
    /// The third number.
    pub rest: u32,
}

impl Version {
    /// Returns `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self {
            major,
            minor,
            rest: 0,
        }
    }

    /// Parses `13`, `13.0` or `13.0.88`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().split('.').map(str::parse);
        let mut next = || numbers.next().unwrap_or(Ok(0));
        Some(Self {
            major: next().ok()?,
            minor: next().ok()?,
            rest: next().ok()?,
        })
    }

    /// Parses the output of `nvcc --version`: `... release 13.0, V13.0.88`.
    pub fn of_nvcc(output: &str) -> Option<Self> {
        let release = output.lines().find(|line| line.contains("release "))?;
        Self::parse(release.rsplit_once(", V")?.1)
    }

    /// Parses CUTLASS's `cutlass/version.h`.
    pub fn of_cutlass(header: &str) -> Option<Self> {
        let number = |name: &str| {
            header.lines().find_map(|line| {
                let mut words = line.split_whitespace();
                let found = words.next() == Some("#define") && words.next() == Some(name);
                found.then(|| words.next()?.parse().ok()).flatten()
            })
        };
        Some(Self {
            major: number("CUTLASS_MAJOR")?,
            minor: number("CUTLASS_MINOR")?,
            rest: number("CUTLASS_PATCH")?,
        })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.rest)
    }
}

/// Returns the newest GCC that a toolkit supports, from its `crt/host_config.h`: `#if __GNUC__ >
/// 15`.
pub fn newest_gcc(host_config: &str) -> Option<u32> {
    host_config.lines().find_map(|line| {
        let condition = line.trim().strip_prefix('#')?.trim().strip_prefix("if ")?;
        let number = condition.trim().strip_prefix("__GNUC__ >")?;
        number.trim().parse().ok()
    })
}
