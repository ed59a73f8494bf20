//! Finds objects that nothing names.
