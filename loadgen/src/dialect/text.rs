//! The classic text protocol.

use memchr::memchr;

use super::{Malformed, Parsed, Reply, Store, block, line, number, words};
use crate::workload::operation::Operation;

pub(super) fn store(store: &Store<'_>, output: &mut Vec<u8>) {
    let mut numbers = [itoa::Buffer::new(), itoa::Buffer::new(), itoa::Buffer::new()];
    let [ttl, bytes, token] = &mut numbers;
    let (ttl, bytes) = (ttl.format(store.ttl_seconds), bytes.format(store.value_bytes));
    let verb = store.operation.name().as_bytes();
    words(&[verb, b" ", store.key, b" 0 ", ttl.as_bytes(), b" ", bytes.as_bytes()], output);
    if store.operation == Operation::Cas {
        words(&[b" ", token.format(store.token).as_bytes()], output);
    }
    output.extend_from_slice(b"\r\n");
}

pub(super) fn reply(input: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let Some((line, bytes)) = line(input)? else { return Ok(None) };
    if let Some(header) = line.strip_prefix(b"VALUE ") {
        return value(input, header, bytes);
    }
    let reply = match line {
        b"END" => Reply::End,
        b"STORED" => Reply::Stored,
        b"NOT_STORED" => Reply::NotStored,
        b"EXISTS" => Reply::Exists,
        b"NOT_FOUND" => Reply::NotFound,
        b"DELETED" => Reply::Deleted,
        b"TOUCHED" => Reply::Touched,
        _ => match line.split(|&byte| byte == b' ').next().unwrap_or_default() {
            b"ERROR" | b"SERVER_ERROR" | b"CLIENT_ERROR" => Reply::Error(line),
            _ => Reply::Number(number(line)?),
        },
    };
    Ok(Some((reply, bytes)))
}

/// `header` is `key flags bytes` or `key flags bytes token`.
fn value<'a>(
    input: &'a [u8],
    header: &'a [u8],
    line_bytes: usize,
) -> Result<Parsed<'a>, Malformed> {
    let (key, rest) = header.split_at(memchr(b' ', header).ok_or(Malformed)?);
    let sizes = rest.strip_prefix(b" 0 ").ok_or(Malformed)?;
    let (bytes, token) = match memchr(b' ', sizes) {
        Some(end) => (number(&sizes[..end])?, number(&sizes[end + 1..])?),
        None => (number(sizes)?, 0),
    };
    let block = block(input, line_bytes, bytes)?;
    Ok(block.map(|(value, end)| (Reply::Value { key, value, token }, end)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_reply;
    use super::super::{Dialect, Malformed, Reply, Store};
    use crate::workload::operation::Operation;

    #[test]
    fn requests_are_written_as_the_protocol_has_them() {
        let mut output = Vec::new();
        Dialect::Text.get_begin(false, &mut output);
        Dialect::Text.get_key(b"one", 2, false, &mut output);
        Dialect::Text.get_key(b"two", 2, false, &mut output);
        Dialect::Text.get_end(2, &mut output);
        Dialect::Text.get_begin(true, &mut output);
        Dialect::Text.get_key(b"one", 1, true, &mut output);
        Dialect::Text.get_end(1, &mut output);
        for operation in [Operation::Add, Operation::Cas] {
            let (key, token) = (&b"one"[..], 9);
            let store = Store { operation, key, ttl_seconds: 60, value_bytes: 3, token };
            Dialect::Text.store_begin(&store, &mut output);
            Dialect::Text.store_end(&mut output);
        }
        Dialect::Text.incr(b"one", &mut output);
        Dialect::Text.touch(b"one", 5, &mut output);
        Dialect::Text.delete(b"one", &mut output);
        let expected = "get one two\r\ngets one\r\nadd one 0 60 3\r\n\r\ncas one 0 60 3 9\r\n\r\n\
                        incr one 1\r\ntouch one 5\r\ndelete one\r\n";
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }

    #[test]
    fn replies_are_read_as_the_protocol_has_them() {
        let value = |token| Reply::Value { key: b"key", value: b"a\r\nb", token };
        assert_reply(Dialect::Text, b"VALUE key 0 4\r\na\r\nb\r\n", value(0));
        assert_reply(Dialect::Text, b"VALUE key 0 4 77\r\na\r\nb\r\n", value(77));
        assert_reply(Dialect::Text, b"END\r\n", Reply::End);
        assert_reply(Dialect::Text, b"STORED\r\n", Reply::Stored);
        assert_reply(Dialect::Text, b"17\r\n", Reply::Number(17));
        let error = b"SERVER_ERROR out of memory storing object";
        assert_reply(Dialect::Text, &[&error[..], b"\r\n"].concat(), Reply::Error(error));
        for bad in [
            &b"VALUE key 1 1\r\na\r\n"[..],
            b"VALUE key 0\r\n",
            b"VALUE key 0 1 2 3\r\n",
            b"WHAT\r\n",
            b"\r\n",
        ] {
            assert_eq!(Dialect::Text.reply(bad), Err(Malformed), "{}", bad.escape_ascii());
        }
    }
}
