//! Version numbers as the tools print them.

/// A version that is compared by major and minor number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// What follows, without its dot: shown, and compared last.
    pub rest: u32,
}

impl Version {
    /// `major.minor`, to compare with.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self {
            major,
            minor,
            rest: 0,
        }
    }

    /// Reads `13`, `13.0` or `13.0.88`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().split('.').map(str::parse);
        let mut next = || numbers.next().unwrap_or(Ok(0));
        Some(Self {
            major: next().ok()?,
            minor: next().ok()?,
            rest: next().ok()?,
        })
    }

    /// The version in what `nvcc --version` prints: `... release 13.0, V13.0.88`.
    pub fn of_nvcc(output: &str) -> Option<Self> {
        let release = output.lines().find(|line| line.contains("release "))?;
        Self::parse(release.rsplit_once(", V")?.1)
    }

    /// The version in CUTLASS's `cutlass/version.h`.
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

/// The newest GCC that a toolkit takes, from its `crt/host_config.h`: `#if __GNUC__ > 15`.
pub fn newest_gcc(host_config: &str) -> Option<u32> {
    host_config.lines().find_map(|line| {
        let condition = line.trim().strip_prefix('#')?.trim().strip_prefix("if ")?;
        let number = condition.trim().strip_prefix("__GNUC__ >")?;
        number.trim().parse().ok()
    })
}
