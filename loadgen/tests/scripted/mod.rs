//! A small server that stores what it is given and then does as it is told: lies or says nothing.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What becomes of a get's answer, by the number of the get.
pub(crate) type Script = fn(u64, &mut Answer);

/// The answer to a get, as it would be from an honest server, and what else there is.
pub(crate) struct Answer {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    /// The value that was stored before that.
    pub(crate) previous: Vec<u8>,
    /// Whether anything is said at all.
    pub(crate) dropped: bool,
    /// Whether the connection is closed instead.
    pub(crate) closed: bool,
}

#[derive(Default)]
struct State {
    items: HashMap<String, [Vec<u8>; 2]>,
    gets: u64,
}

/// Serves in threads of its own until the process ends.
pub(crate) fn serve(script: Script) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let state = Arc::new(Mutex::new(State::default()));
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let state = Arc::clone(&state);
            // An error is the client's going away.
            std::thread::spawn(move || converse(&socket.unwrap(), &state, script));
        }
    });
    address
}

fn converse(socket: &TcpStream, state: &Mutex<State>, script: Script) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut input = BufReader::new(socket);
    let mut output = socket;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["get", key] => match get(key, state, script) {
                Some(answer) => answer,
                None => return Ok(()),
            },
            ["set", key, _, _, bytes] => {
                let mut value = vec![0; bytes.parse::<usize>().unwrap() + 2];
                input.read_exact(&mut value)?;
                value.truncate(value.len() - 2);
                let mut state = state.lock().unwrap();
                let item = state.items.entry(key.to_owned()).or_default();
                item.swap(0, 1);
                item[0] = value;
                b"STORED\r\n".to_vec()
            }
            _ => b"ERROR\r\n".to_vec(),
        };
        output.write_all(&answer)?;
    }
}

/// `None` where the connection is to be closed.
fn get(key: &str, state: &Mutex<State>, script: Script) -> Option<Vec<u8>> {
    let mut locked = state.lock().unwrap();
    locked.gets += 1;
    let [value, previous] = locked.items.get(key).cloned().unwrap_or_default();
    let (dropped, closed) = (false, false);
    let mut answer = Answer { key: key.to_owned(), value, previous, dropped, closed };
    script(locked.gets, &mut answer);
    if answer.dropped || answer.closed {
        return answer.dropped.then(Vec::new);
    }
    let header = format!("VALUE {} 0 {}\r\n", answer.key, answer.value.len());
    Some([header.as_bytes(), &answer.value, b"\r\nEND\r\n"].concat())
}
