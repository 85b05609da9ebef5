//! What is fuzzed. Each function takes any bytes, and panics where larder is wrong about them.
//!
//! That a parser does not panic is the least. The short cuts for the commonest requests must say
//! what the parser says; a configuration must survive being printed and read again; and the whole
//! server, less its sockets, must answer a stream of bytes in the same way however it arrives, keep
//! no more of it than it may, and leave its store in order.

use larder::config::{Config, Sources};
use larder::protocol::base64::NO_KEY;
use larder::protocol::binary::{self, HEADER_BYTES, Header};
use larder::protocol::text::{self, LongLine, Tokens};
use larder::protocol::{KEY_BYTES_MAX, Request, meta};
use std::path::PathBuf;
use std::{fs, process};

#[path = "../../tests/support/random.rs"]
mod random;
mod server;

pub(crate) use random::Random;
pub use server::server;

/// Lines of the classic text protocol.
pub fn text(input: &[u8]) {
    for line in input.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        let understood = text::parse(line);
        let parsed = understood.parsed;
        if let Some((plain, line_bytes)) = text::plain_set(line) {
            let parsed = text::Parsed::Request(Request::Store(plain), b"");
            assert_eq!(understood, text::Line { parsed, quiet: false });
            assert_eq!(line_bytes, line.len());
        }
        if let Some((retrieval, key, rest)) = text::lone_get(line) {
            let text::Parsed::Request(Request::Retrieve(asked), keys) = parsed else {
                panic!("{parsed:?} is no retrieval");
            };
            assert_eq!((asked, rest), (retrieval, &b""[..]));
            assert!(Tokens::new(keys).eq([key]));
        }
        if let text::Parsed::Request(Request::Store(storage), _) = parsed {
            assert!((1..=KEY_BYTES_MAX).contains(&storage.key.len()));
        }
    }
    if let LongLine::Keys(_, offset) = text::judge_long_line(input) {
        assert!(offset <= input.len());
    }
    assert!(text::first_key(input).is_none_or(|key| key.len() < input.len()));
}

/// Lines of meta commands.
pub fn meta(input: &[u8]) {
    for line in input.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        let mut decoded = NO_KEY;
        let parsed = meta::parse(line, &mut decoded);
        if let meta::Parsed::Store(storage) = parsed.parsed {
            assert!((1..=KEY_BYTES_MAX).contains(&storage.key.len()));
        }
        if let Some((key, reply, rest)) = meta::lone_fetch(line) {
            let meta::Parsed::Fetch(fetch) = parsed.parsed else { panic!("no fetch") };
            assert_eq!((fetch.key, parsed.reply, &b""[..]), (key, reply, rest));
        }
    }
}

/// Packets of the binary protocol.
pub fn binary(input: &[u8]) {
    assert!(binary::keys_ahead(input).all(|key| key.len() <= input.len()));
    let mut rest = input;
    while let Some((bytes, body)) = rest.split_first_chunk::<HEADER_BYTES>()
        && let Some(header) = Header::read(bytes)
        && header.check_lengths().is_ok()
        && let Some(parts) = header.body(body)
    {
        let asked = header.check_parts().is_ok().then(|| header.asked(&parts));
        if let Some((lone, key, after)) = binary::lone_get(rest) {
            assert_eq!((lone, key), (header, parts.key));
            assert!(matches!(asked, Some(binary::Asked::Item(None))));
            assert_eq!(after.len(), rest.len() - header.packet_bytes());
        }
        let Some(after) = rest.get(header.packet_bytes()..) else { break };
        rest = after;
    }
}

/// A configuration file.
pub fn config(input: &[u8]) {
    let Some((sources, config)) = read_config(input) else { return };
    let printed = sources.render(&config).expect("what was understood can be printed");
    let (_, mut again) = read_config(printed.as_bytes()).expect("what was printed is understood");
    // What has no effect need not be printed, and a default looks like something given then.
    again.without_effect.clone_from(&config.without_effect);
    again.listen_typed.clone_from(&config.listen_typed);
    assert_eq!(format!("{again:?}"), format!("{config:?}"), "{printed}");
}

/// The configuration that a file with these contents makes.
fn read_config(contents: &[u8]) -> Option<(Sources, Config)> {
    // In memory: with a disk, nearly all of the time would go into the file.
    let path = PathBuf::from(format!("/dev/shm/larder-fuzz-{}.conf", process::id()));
    fs::write(&path, contents).expect("the folder for shared memory is writable");
    let words = ["larder".into(), "--config".into(), path.clone().into_os_string()];
    let sources = Sources::read(words, |_| None);
    fs::remove_file(&path).expect("it was just written");
    let sources = sources.ok()?;
    let config = sources.config().ok()?;
    Some((sources, config))
}
