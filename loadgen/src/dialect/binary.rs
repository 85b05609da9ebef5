//! The binary protocol: packets with a header of 24 bytes. Gets ask for the key with the value; a
//! get of several keys is quiet about misses and ends with a no-op.

use super::{Malformed, Parsed, Reply, Store};
use crate::workload::operation::Operation;

pub(super) fn get_key(key: &[u8], several: bool, output: &mut Vec<u8>) {
    packet(if several { GETKQ } else { GETK }, &[], key, 0, 0, output);
}

pub(super) fn noop(output: &mut Vec<u8>) {
    packet(NOOP, &[], &[], 0, 0, output);
}

pub(super) fn store(store: &Store<'_>, output: &mut Vec<u8>) {
    let opcode = match store.operation {
        Operation::Add => ADD,
        Operation::Append => APPEND,
        Operation::Prepend => PREPEND,
        _ => SET,
    };
    let mut extras = [0; 8];
    extras[4..].copy_from_slice(&store.ttl_seconds.to_be_bytes());
    let extras = if opcode == APPEND || opcode == PREPEND { &[][..] } else { &extras };
    packet(opcode, extras, store.key, store.value_bytes, store.token, output);
}

pub(super) fn incr(key: &[u8], output: &mut Vec<u8>) {
    let mut extras = [0; 20];
    extras[7] = 1;
    extras[16..].copy_from_slice(&CREATE_NOTHING);
    packet(INCR, &extras, key, 0, 0, output);
}

pub(super) fn touch(key: &[u8], ttl_seconds: u32, output: &mut Vec<u8>) {
    packet(TOUCH, &ttl_seconds.to_be_bytes(), key, 0, 0, output);
}

pub(super) fn delete(key: &[u8], output: &mut Vec<u8>) {
    packet(DELETE, &[], key, 0, 0, output);
}

pub(super) fn reply(input: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let Some((header, _)) = input.split_first_chunk::<HEADER_BYTES>() else {
        return if input.first().is_none_or(|&magic| magic == RESPONSE) {
            Ok(None)
        } else {
            Err(Malformed)
        };
    };
    let short = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let body_bytes = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
    let extras_end = HEADER_BYTES + usize::from(header[4]);
    let key_end = extras_end + usize::from(short(2));
    let end = HEADER_BYTES + body_bytes;
    if header[0] != RESPONSE || key_end > end || body_bytes > BODY_BYTES_MAX {
        return Err(Malformed);
    }
    let Some(packet) = input.get(..end) else { return Ok(None) };
    let token = u64::from_be_bytes(*header.last_chunk().expect("a header is longer"));
    let (key, value) = (&packet[extras_end..key_end], &packet[key_end..]);
    let reply = match (header[1], short(6)) {
        (GETK | GETKQ, 0) if packet[HEADER_BYTES..extras_end].iter().all(|&flag| flag == 0) => {
            Reply::Value { key, value, token }
        }
        (GETK | GETKQ, 1) => Reply::Miss,
        (NOOP, 0) => Reply::End,
        (SET | ADD | APPEND | PREPEND, 0) => Reply::Stored,
        (DELETE, 0) => Reply::Deleted,
        (TOUCH, 0) => Reply::Touched,
        (INCR, 0) => Reply::Number(u64::from_be_bytes(value.try_into().map_err(|_| Malformed)?)),
        (ADD, 2) => Reply::NotStored,
        (_, 1) => Reply::NotFound,
        (_, 2) => Reply::Exists,
        (_, 5) => Reply::NotStored,
        (_, 0) => return Err(Malformed),
        _ => Reply::Error(value),
    };
    Ok(Some((reply, end)))
}

/// The value, `value_bytes` long, must follow.
fn packet(
    opcode: u8,
    extras: &[u8],
    key: &[u8],
    value_bytes: usize,
    token: u64,
    output: &mut Vec<u8>,
) {
    let body_bytes = extras.len() + key.len() + value_bytes;
    let mut header = [0; HEADER_BYTES];
    header[0] = REQUEST;
    header[1] = opcode;
    let key_bytes = u16::try_from(key.len()).expect("a key of at most 250 bytes");
    header[2..4].copy_from_slice(&key_bytes.to_be_bytes());
    header[4] = u8::try_from(extras.len()).expect("at most 20 bytes");
    let body_bytes = u32::try_from(body_bytes).expect("a value of at most a gibibyte");
    header[8..12].copy_from_slice(&body_bytes.to_be_bytes());
    header[16..].copy_from_slice(&token.to_be_bytes());
    output.extend_from_slice(&header);
    output.extend_from_slice(extras);
    output.extend_from_slice(key);
}

const HEADER_BYTES: usize = 24;
const REQUEST: u8 = 0x80;
const RESPONSE: u8 = 0x81;
const SET: u8 = 0x01;
const ADD: u8 = 0x02;
const DELETE: u8 = 0x04;
const INCR: u8 = 0x05;
const NOOP: u8 = 0x0A;
const GETK: u8 = 0x0C;
const GETKQ: u8 = 0x0D;
const APPEND: u8 = 0x0E;
const PREPEND: u8 = 0x0F;
const TOUCH: u8 = 0x1C;
/// The expiry that keeps an increment from making a counter.
const CREATE_NOTHING: [u8; 4] = [0xFF; 4];
/// A gibibyte of value, and the rest.
const BODY_BYTES_MAX: usize = (1 << 30) + 512;

#[cfg(test)]
mod tests {
    use super::super::tests::assert_reply;
    use super::*;
    use crate::dialect::Dialect;

    fn response(opcode: u8, status: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        packet(opcode, extras, key, value.len(), 7, &mut output);
        output[0] = RESPONSE;
        output[7] = status;
        output.extend_from_slice(value);
        output
    }

    #[test]
    fn requests_are_written_as_the_protocol_has_them() {
        let mut output = Vec::new();
        let operation = Operation::Set;
        let store = Store { operation, key: b"one", ttl_seconds: 258, value_bytes: 2, token: 9 };
        Dialect::Binary.store_begin(&store, &mut output);
        let header = [0x80, 1, 0, 3, 8, 0, 0, 0, 0, 0, 0, 13, 0, 0, 0, 0];
        let rest = [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1, 2, b'o', b'n', b'e'];
        assert_eq!(output, [&header[..], &rest].concat());
    }

    #[test]
    fn replies_are_read_as_the_protocol_has_them() {
        let value = Reply::Value { key: b"key", value: b"abc", token: 7 };
        assert_reply(Dialect::Binary, &response(GETK, 0, &[0; 4], b"key", b"abc"), value);
        assert_reply(Dialect::Binary, &response(GETK, 1, &[], b"", b"Not found"), Reply::Miss);
        assert_reply(Dialect::Binary, &response(NOOP, 0, &[], b"", b""), Reply::End);
        assert_reply(Dialect::Binary, &response(SET, 0, &[], b"", b""), Reply::Stored);
        assert_reply(Dialect::Binary, &response(SET, 2, &[], b"", b"Exists"), Reply::Exists);
        assert_reply(Dialect::Binary, &response(ADD, 2, &[], b"", b"Exists"), Reply::NotStored);
        let number = response(INCR, 0, &[], b"", &17_u64.to_be_bytes());
        assert_reply(Dialect::Binary, &number, Reply::Number(17));
        let error = Reply::Error(b"Out of memory");
        assert_reply(Dialect::Binary, &response(SET, 0x82, &[], b"", b"Out of memory"), error);
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        assert_eq!(reply(b"ERROR\r\n"), Err(Malformed));
        assert_eq!(reply(&response(GETK, 0, &[1; 4], b"key", b"abc")), Err(Malformed));
        let mut lengths = response(GETK, 0, &[0; 4], b"key", b"");
        lengths[3] = 200;
        assert_eq!(reply(&lengths), Err(Malformed));
    }
}
