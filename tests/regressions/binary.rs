//! The binary protocol, whose headers hold three lengths that must fit each other.

use std::io::{Read, Write};
use std::net::Shutdown;

use super::{assert_serves, servers, support};
use support::Server;

/// CVE-2011-4971 (a negative length of the body), CVE-2016-8704 and -8705 (a body shorter than key
/// and extras), CVE-2017-9951 (more key announced than sent), CVE-2020-10931 (more extras than any
/// command has).
#[test]
fn cve_2011_4971_to_2020_10931_lengths_that_do_not_fit() {
    for server in servers(&[]) {
        for opcode in (0..=0x26).chain([0x30, 0xff]) {
            for key_bytes in [0, 1, 251, 0xffff] {
                for extras_bytes in [0, 20, 255] {
                    for body_bytes in [0, 1, 28, 300, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
                        let header = header(opcode, key_bytes, extras_bytes, body_bytes);
                        exchange(&server, &[header.as_slice(), &[b'k'; 300]].concat());
                    }
                }
            }
        }
        assert_serves(&server);
    }
}

/// Fixed anew in 1.6.43: readers of an item were counted in 16 bits. (memcached now has some of
/// them miss.)
#[test]
fn cve_2018_1000127_a_key_asked_for_70_000_times_at_once() {
    let server = Server::start(&support::larder(), &[]);
    let set = [header(0x01, 1, 8, 10).as_slice(), &[0; 8], b"kv"].concat();
    let get = [header(0x09, 1, 0, 1).as_slice(), b"k"].concat();
    let answers = exchange(&server, &[set, get.repeat(70_000)].concat());
    assert_eq!(answers.len(), HEADER_BYTES + 70_000 * (HEADER_BYTES + 4 + 1));
    assert_serves(&server);
}

fn header(opcode: u8, key_bytes: u16, extras_bytes: u8, body_bytes: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..2].copy_from_slice(&[0x80, opcode]);
    header[2..4].copy_from_slice(&key_bytes.to_be_bytes());
    header[4] = extras_bytes;
    header[8..12].copy_from_slice(&body_bytes.to_be_bytes());
    header
}

/// All that a server has to say to a client that sends this and nothing more. It may close before
/// it has read all of it.
fn exchange(server: &Server, request: &[u8]) -> Vec<u8> {
    let mut client = server.connect();
    let mut writer = client.try_clone().expect("a socket can be cloned");
    let mut answer = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = writer.write_all(request);
            let _ = writer.shutdown(Shutdown::Write);
        });
        let _ = client.read_to_end(&mut answer);
    });
    answer
}

const HEADER_BYTES: usize = 24;
