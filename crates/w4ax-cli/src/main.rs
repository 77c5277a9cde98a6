//! The command line of w4ax.
fn main() {}
