//! What is told of a run, and in which form.

pub mod assertion;
pub mod hgrm;
pub mod html;
pub mod json;
pub mod log;
pub mod plain;
pub mod progress;
