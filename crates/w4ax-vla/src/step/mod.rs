//! TODO(step)
