//! Files of users, as memcached reads them and as nobody should.

use super::*;

fn token(file: &[u8]) -> Credentials {
    Method::Token.credentials(file).expect("a good file")
}

fn sasl(file: &[u8]) -> Authentication {
    Authentication::of(Method::Sasl { realm: "here.example".to_owned() }, file)
}

#[test]
fn each_line_is_a_user() {
    let users = token(b"alice:secret\nbob:a:b\r\n:nameless\nempty:\nlast:end");
    for (user, password) in
        [("alice", "secret"), ("bob", "a:b"), ("", "nameless"), ("empty", ""), ("last", "end")]
    {
        assert!(users.check(user.as_bytes(), password.as_bytes()), "{user}");
    }
}

#[test]
fn nothing_but_the_whole_of_both_is_right() {
    let users = token(b"alice:secret\nbob:a:b\nempty:\n");
    let wrong: &[(&[u8], &[u8])] = &[
        (b"alice", b"secre"),
        (b"alice", b"secret "),
        (b"alice", b"secret\0"),
        (b"alice", b""),
        (b"alic", b"secret"),
        (b"alice\0", b"secret"),
        (b"alices", b"ecret"),
        (b"alice", b"a:b"),
        (b"bob:a", b"b"),
        (b"bob", b"a"),
        (b"", b""),
        (b"empty", b"\0"),
        (b"Alice", b"secret"),
    ];
    for (user, password) in wrong {
        assert!(
            !users.check(user, password),
            "{} {}",
            user.escape_ascii(),
            password.escape_ascii()
        );
    }
    assert!(!Credentials::default().check(b"", b""));
}

#[test]
fn more_than_memcacheds_eight_users_are_no_fewer() {
    let file: String = (0..RECORDS_MAX).map(|number| format!("user{number}:p{number}\n")).collect();
    let users = token(file.as_bytes());
    for number in 0..RECORDS_MAX {
        let (user, password) = (format!("user{number}"), format!("p{number}"));
        assert!(users.check(user.as_bytes(), password.as_bytes()), "{user}");
    }
    let one_more = Method::Token.credentials(&[file.as_bytes(), b"a:b"].concat());
    assert!(matches!(one_more, Err(Unusable::TooLarge)));
}

/// CVE-2021-37519: memcached wrote beyond its buffer for such files.
#[test]
fn cve_2021_37519_odd_files_are_malformed_and_nothing_else() {
    let long = [b"u:".as_slice(), &[b'x'; RECORD_BYTES - 2]].concat();
    let files: &[&[u8]] = &[b"", b"\n", b"\r\n", b"nobody", b"a:b\n\nc:d\n", b"a:b\nnobody", &long];
    for file in files {
        let credentials = Method::Token.credentials(file);
        assert!(matches!(credentials, Err(Unusable::Malformed)), "{}", file.escape_ascii());
    }
    let longest = &long[..long.len() - 1];
    assert!(token(longest).check(b"u", &[b'x'; RECORD_BYTES - 3]));
    assert!(!token(longest).check(b"u", &[b'x'; RECORD_BYTES - 2]));
}

#[test]
fn a_sasl_password_ends_at_any_colon() {
    let users = sasl(b"# users\n\nalice:secret:::\nbob:a:b\nempty:\n");
    for (user, password) in [("alice", "secret"), ("bob", "a"), ("bob", "a:b")] {
        assert!(users.check(user.as_bytes(), password.as_bytes()), "{user}");
    }
    for (user, password) in [("alice", ""), ("empty", ""), ("bob", "a:"), ("# users", "")] {
        assert!(!users.check(user.as_bytes(), password.as_bytes()), "{user}");
    }
}

#[test]
fn a_sasl_user_is_the_same_with_and_without_this_hosts_realm() {
    let users = sasl(b"alice:secret\nbob@here.example:secret\ncarol@elsewhere:secret\n");
    for user in ["alice", "alice@here.example", "bob", "bob@here.example", "carol@elsewhere"] {
        assert!(users.check(user.as_bytes(), b"secret"), "{user}");
    }
    for user in ["carol", "alice@elsewhere", "alice@", "alicehere.example", "@here.example"] {
        assert!(!users.check(user.as_bytes(), b"secret"), "{user}");
    }
}

#[test]
fn a_given_user_stays_the_only_one() {
    let method = Method::Sasl { realm: "here.example".to_owned() };
    let users = Authentication::of_user(method.clone(), b"alice@here.example", b"a:b ").unwrap();
    users.reload();
    assert!(users.check(b"alice", b"a:b ") && users.check(b"alice@here.example", b"a:b "));
    for password in ["a", "a:b", ""] {
        assert!(!users.check(b"alice", password.as_bytes()), "{password}");
    }
    let longest = [b'x'; USER_BYTES_MAX];
    let users = Authentication::of_user(method.clone(), b"", &longest).unwrap();
    assert!(users.check(b"", &longest) && !users.check(b"", &longest[1..]));
    assert!(Authentication::of_user(method, b"u", &longest).is_none());
}

/// CVE-2026-47783: memcached stopped comparing at the user it found, and at the first byte that
/// differed. Here there is nothing to stop at: the position of a difference, the number of users
/// who come first and the existence of a user are not looked at before all is compared.
#[test]
fn cve_2026_47783_records_have_one_size_and_tell_all_apart() {
    let pairs: &[(&[u8], &[u8])] = &[
        (b"", b""),
        (b"", b"\0"),
        (b"\0", b""),
        (b"a", b""),
        (b"", b"a"),
        (b"ab", b"c"),
        (b"a", b"bc"),
    ];
    let records: Vec<Record> =
        pairs.iter().map(|(user, password)| Record::new(user, password).expect("short")).collect();
    for (at, one) in records.iter().enumerate() {
        for (other_at, other) in records.iter().enumerate() {
            assert_eq!(bool::from(one.0.ct_eq(&other.0)), at == other_at);
        }
    }
}

#[test]
fn what_is_logged_shows_no_secret() {
    let shown = format!("{:?}", sasl(b"alice:secret\n"));
    assert!(!shown.contains("alice") && !shown.contains("secret"), "{shown}");
}

#[test]
fn a_file_that_becomes_bad_leaves_those_who_may() {
    let path = std::env::temp_dir().join(format!("larder-users-{}", std::process::id()));
    std::fs::write(&path, "alice:secret\n").expect("a writable folder");
    let users = Authentication::open(Method::Token, &path).expect("a good file");
    std::fs::write(&path, "bob:other\n").expect("a writable folder");
    assert!(users.check(b"alice", b"secret"), "nobody asked for it to be read");
    users.reload();
    assert!(users.check(b"bob", b"other") && !users.check(b"alice", b"secret"));
    for bad in [b"nobody".as_slice(), b"", &[b':'; FILE_BYTES_MAX + 1]] {
        std::fs::write(&path, bad).expect("a writable folder");
        users.reload();
        assert!(users.check(b"bob", b"other"));
    }
    std::fs::remove_file(&path).expect("it is there");
    users.reload();
    assert!(users.check(b"bob", b"other"));
    let failure = Authentication::open(Method::Token, &path).expect_err("there is none");
    assert!(failure.to_string().starts_with("Could not open authfile ["), "{failure}");
}
