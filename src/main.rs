//! The larder server.
fn main() {}
