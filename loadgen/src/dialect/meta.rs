//! Meta commands. Gets ask for the key with the value, so that every answer says whose it is; a get
//! of several keys is quiet about misses and ends with a no-op.

use super::{Malformed, Parsed, Reply, Store, block, line, number, words};
use crate::workload::operation::Operation;

pub(super) fn get_key(key: &[u8], several: bool, tokens: bool, output: &mut Vec<u8>) {
    words(&[b"mg ", key, b" k v"], output);
    if tokens {
        output.extend_from_slice(b" c");
    }
    output.extend_from_slice(if several { b" q\r\n" } else { b"\r\n" });
}

pub(super) fn store(store: &Store<'_>, output: &mut Vec<u8>) {
    let mut numbers = [itoa::Buffer::new(), itoa::Buffer::new(), itoa::Buffer::new()];
    let [ttl, bytes, token] = &mut numbers;
    words(&[b"ms ", store.key, b" ", bytes.format(store.value_bytes).as_bytes()], output);
    if store.ttl_seconds > 0 {
        words(&[b" T", ttl.format(store.ttl_seconds).as_bytes()], output);
    }
    match store.operation {
        Operation::Add => output.extend_from_slice(b" ME"),
        Operation::Append => output.extend_from_slice(b" MA"),
        Operation::Prepend => output.extend_from_slice(b" MP"),
        Operation::Cas => words(&[b" C", token.format(store.token).as_bytes()], output),
        _ => {}
    }
    output.extend_from_slice(b"\r\n");
}

pub(super) fn reply(input: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let Some((line, bytes)) = line(input)? else { return Ok(None) };
    if let Some(header) = line.strip_prefix(b"VA ") {
        return value(input, header, bytes);
    }
    let reply = match line.split(|&byte| byte == b' ').next().unwrap_or_default() {
        b"EN" => Reply::Miss,
        b"MN" => Reply::End,
        b"HD" => Reply::Done,
        b"NS" => Reply::NotStored,
        b"EX" => Reply::Exists,
        b"NF" => Reply::NotFound,
        b"ERROR" | b"SERVER_ERROR" | b"CLIENT_ERROR" => Reply::Error(line),
        _ => return Err(Malformed),
    };
    Ok(Some((reply, bytes)))
}

/// `header` is the length and the flags that were asked for.
fn value<'a>(
    input: &'a [u8],
    header: &'a [u8],
    line_bytes: usize,
) -> Result<Parsed<'a>, Malformed> {
    let mut fields = header.split(|&byte| byte == b' ');
    let bytes = number(fields.next().unwrap_or_default())?;
    let (mut key, mut token) = (&b""[..], 0);
    for field in fields {
        match field.split_first() {
            Some((b'k', rest)) => key = rest,
            Some((b'c', rest)) => token = number(rest)?,
            _ => return Err(Malformed),
        }
    }
    let Some((value, end)) = block(input, line_bytes, bytes)? else { return Ok(None) };
    let reply = match key {
        // Only a counter's answer does not name its key.
        b"" => Reply::Number(number(value)?),
        key => Reply::Value { key, value, token },
    };
    Ok(Some((reply, end)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_reply;
    use super::super::{Dialect, Malformed, Reply, Store};
    use crate::workload::operation::Operation;

    #[test]
    fn requests_are_written_as_the_protocol_has_them() {
        let mut output = Vec::new();
        for keys in [1, 2] {
            Dialect::Meta.get_begin(false, &mut output);
            (0..keys).for_each(|_| Dialect::Meta.get_key(b"one", keys, keys == 1, &mut output));
            Dialect::Meta.get_end(keys, &mut output);
        }
        for (operation, ttl_seconds) in [(Operation::Set, 0), (Operation::Cas, 60)] {
            let (key, token) = (&b"one"[..], 9);
            let store = Store { operation, key, ttl_seconds, value_bytes: 3, token };
            Dialect::Meta.store_begin(&store, &mut output);
            Dialect::Meta.store_end(&mut output);
        }
        Dialect::Meta.incr(b"one", &mut output);
        Dialect::Meta.touch(b"one", 5, &mut output);
        Dialect::Meta.delete(b"one", &mut output);
        let expected = "mg one k v c\r\nmg one k v q\r\nmg one k v q\r\nmn\r\nms one 3\r\n\r\n\
                        ms one 3 T60 C9\r\n\r\nma one v\r\nmg one T5\r\nmd one\r\n";
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }

    #[test]
    fn replies_are_read_as_the_protocol_has_them() {
        let value = |token| Reply::Value { key: b"key", value: b"a\r\nb", token };
        assert_reply(Dialect::Meta, b"VA 4 kkey\r\na\r\nb\r\n", value(0));
        assert_reply(Dialect::Meta, b"VA 4 kkey c7\r\na\r\nb\r\n", value(7));
        assert_reply(Dialect::Meta, b"VA 2\r\n17\r\n", Reply::Number(17));
        assert_reply(Dialect::Meta, b"EN\r\n", Reply::Miss);
        assert_reply(Dialect::Meta, b"MN\r\n", Reply::End);
        assert_reply(Dialect::Meta, b"HD\r\n", Reply::Done);
        for bad in [&b"VA 1 x\r\na\r\n"[..], b"VA x kkey\r\n", b"WHAT\r\n", b"\r\n"] {
            assert_eq!(Dialect::Meta.reply(bad), Err(Malformed), "{}", bad.escape_ascii());
        }
    }
}
