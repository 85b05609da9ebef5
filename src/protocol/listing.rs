//! Lists of what is stored, as memcached's crawler and its prefix figures write them.

use super::encode::Encoder;
use super::uri::Encoded;
use super::{base64, is_text_key};
use std::io::Write;

/// All that is told of an item besides its value.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// The second in which it ends (0: never).
    pub expiry: u32,
    /// The second of its last use.
    pub last_access: u32,
    /// Its version.
    pub cas: u64,
    /// It was fetched.
    pub fetched: bool,
    /// Its size, as memcached would count it.
    pub bytes: usize,
    /// The client's flags.
    pub flags: u32,
}

impl Encoder<'_> {
    /// An item in a list for programs. Its line ends as memcached ends it: with a blank, and
    /// without a carriage return.
    pub fn facts(&mut self, facts: &Facts<'_>) {
        let Facts { key, expiry, last_access, cas, fetched, bytes, flags } = *facts;
        let key = Encoded(key);
        let expiry = if expiry == 0 { -1 } else { i64::from(expiry) };
        let fetched = if fetched { "yes" } else { "no" };
        self.write(format_args!("key={key} exp={expiry} la={last_access} cas={cas} "));
        self.write(format_args!("fetch={fetched} cls=1 size={bytes} flags={flags} \n"));
    }

    /// A key in a list of requests for all of them.
    pub fn request_for(&mut self, key: &[u8]) {
        self.write(format_args!("mg "));
        if is_text_key(key) {
            self.output.extend_from_slice(key);
            self.write(format_args!("\r\n"));
        } else {
            self.write(format_args!("{} b\r\n", base64::Encoded(key)));
        }
    }

    /// The end of such a list.
    pub fn end_of_requests(&mut self) {
        self.write(format_args!("EN\r\n"));
    }

    /// What was done to the keys with a prefix.
    pub fn prefix(&mut self, prefix: &[u8], [gets, hits, sets, deletes]: [u64; 4]) {
        self.write(format_args!("PREFIX "));
        self.output.extend_from_slice(prefix);
        self.write(format_args!(" get {gets} hit {hits} set {sets} del {deletes}\r\n"));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.output.write_fmt(text).expect("a Vec takes all that is written");
    }
}
