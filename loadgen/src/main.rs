//! A load generator for servers that speak memcached.
fn main() {}
