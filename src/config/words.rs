//! A line of a configuration file as words, and words as such a line.
//!
//! Debian's wrapper hands the lines of `/etc/memcached.conf` to a shell, so quotes and backslashes
//! mean what they mean there. Nothing is expanded: a `*` or a `$` is itself.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

/// The words of `line`. A `#` that is neither quoted nor escaped begins a comment, even within a
/// word, as it does for Debian's scripts.
///
/// # Errors
///
/// A quotation that does not end, a backslash with nothing behind it.
pub(super) fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '#' => break,
            next if next.is_whitespace() => words.extend(word.take()),
            '\'' | '"' => quotation(next, &mut rest, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(rest.next().ok_or(ESCAPES_NOTHING)?),
            next => word.get_or_insert_default().push(next),
        }
    }
    words.extend(word);
    Ok(words)
}

/// `word` such that [`split`] gives it back.
pub(super) fn quote(word: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=,.:/+@%[]*".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

/// Adds to `word` what follows an opening `quote`, to the closing one. Between double quotes a
/// backslash takes the meaning of these two characters away and stands for itself otherwise.
fn quotation(
    quote: char,
    rest: &mut Peekable<Chars<'_>>,
    word: &mut String,
) -> Result<(), &'static str> {
    while let Some(next) = rest.next() {
        match next {
            next if next == quote => return Ok(()),
            '\\' if quote == '"' => {
                word.push(rest.next_if(|&next| matches!(next, '"' | '\\')).unwrap_or(next));
            }
            next => word.push(next),
        }
    }
    Err(UNENDING)
}

const UNENDING: &str = "a quotation without an end";
const ESCAPES_NOTHING: &str = "a backslash at the end";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_a_shell_does() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  -m  64\t", &["-m", "64"]),
            ("-P '/run/my dir/pid'", &["-P", "/run/my dir/pid"]),
            (r#"-P "/run/my \"dir\"/a\b""#, &["-P", r#"/run/my "dir"/a\b"#]),
            (r"-P /run/my\ dir", &["-P", "/run/my dir"]),
            ("--pidfile='a b'c", &["--pidfile=a bc"]),
            ("-u ''", &["-u", ""]),
            ("-l * $HOME", &["-l", "*", "$HOME"]),
            ("# -m 64", &[]),
            ("-m 64 # -c 5", &["-m", "64"]),
            ("-m 64#5", &["-m", "64"]),
            (r"-D \#", &["-D", "#"]),
            ("-D '#' # pound", &["-D", "#"]),
        ];
        for &(line, words) in table {
            let words = words.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(split(line), Ok(words), "{line}");
        }
        assert_eq!(split("-P 'a"), Err(UNENDING));
        assert_eq!(split("-P \"a\\\""), Err(UNENDING));
        assert_eq!(split("-P \\"), Err(ESCAPES_NOTHING));
    }

    #[test]
    fn quoted_words_come_back() {
        for word in ["", "-m", "a b", "it's", "#", "a\\b", "\"", "$x", "ünï", "''", "\t"] {
            assert_eq!(split(&quote(word)), Ok(vec![word.to_owned()]), "{word:?}");
        }
        assert_eq!(quote("--listen=[::1]:11211"), "--listen=[::1]:11211");
    }
}
