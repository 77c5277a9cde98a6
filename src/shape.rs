//! The shape of an operand, as errors report it.

/// The shape of a vector or a matrix, outermost extent first.
///
/// ```
/// use w4ax::Shape;
/// assert_eq!(Shape::from([3, 70]).to_string(), "[3, 70]");
/// assert_eq!(Shape::from([20]).dims(), [20]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; 2],
    rank: usize,
}

impl Shape {
    /// The extents.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }
}

impl From<[usize; 1]> for Shape {
    fn from([len]: [usize; 1]) -> Self {
        Self {
            dims: [len, 0],
            rank: 1,
        }
    }
}

impl From<[usize; 2]> for Shape {
    fn from(dims: [usize; 2]) -> Self {
        Self { dims, rank: 2 }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
