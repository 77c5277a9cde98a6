//! TODO(model)
