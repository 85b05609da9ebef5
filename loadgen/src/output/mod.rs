//! What is told of a run, and in which form.

pub mod json;
pub mod plain;
