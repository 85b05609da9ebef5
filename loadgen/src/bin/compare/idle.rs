//! Memory that a connection holds while it waits for its next request. Each has asked once, so that
//! what a server keeps after a request counts too.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use loadgen::process::{allowed_cores, raise_file_limit};

use crate::servers::{Contestant, Kind};
use crate::summary::{Goal, Table};

pub(crate) fn measure(contestants: &[Contestant], connections: usize) -> io::Result<Table> {
    let cores = allowed_cores()?;
    allow(connections)?;
    let header = ["resident bytes", "before", "after", "per connection", "goal"];
    let title = format!("{connections} idle connections, each of which has asked once");
    let mut table = Table::new(title, header.map(str::to_owned).to_vec());
    for contestant in contestants.iter().filter(|contestant| contestant.kind != Kind::Null) {
        let server = contestant.start(WORKERS, &cores, connections + OTHER_CONNECTIONS)?;
        // A few first, so that what the server sets up once is not counted.
        let warm_up = open(server.address, WORKERS * 4)?;
        let before = server.resident_bytes()?;
        let idle = open(server.address, connections)?;
        let after = server.resident_bytes()?;
        drop((warm_up, idle));
        let each = after.saturating_sub(before) as f64 / connections as f64;
        let verdict = match contestant.kind {
            Kind::Larder => GOAL.verdict(each),
            Kind::Memcached | Kind::Null => "-".to_owned(),
        };
        let title = contestant.title.clone();
        table.push(vec![
            title,
            before.to_string(),
            after.to_string(),
            format!("{each:.0}"),
            verdict,
        ]);
    }
    Ok(table)
}

/// Connections that have each been answered.
fn open(server: SocketAddr, connections: usize) -> io::Result<Vec<TcpStream>> {
    (0..connections)
        .map(|_| {
            let mut socket = TcpStream::connect(server)?;
            socket.write_all(b"get nothing\r\n")?;
            let mut reply = [0; 5];
            socket.read_exact(&mut reply)?;
            match &reply {
                b"END\r\n" => Ok(socket),
                other => Err(io::Error::new(
                    ErrorKind::InvalidData,
                    format!("wrong reply: `{}`", other.escape_ascii()),
                )),
            }
        })
        .collect()
}

/// Lets this process, and the servers it starts, open that many connections.
fn allow(connections: usize) -> io::Result<()> {
    let files_max = raise_file_limit()?;
    if files_max < (connections + OTHER_CONNECTIONS) as u64 {
        let message =
            format!("the system allows {files_max} open files, too few for {connections}");
        return Err(io::Error::other(message));
    }
    Ok(())
}

const WORKERS: usize = 2;
const OTHER_CONNECTIONS: usize = 100;
const GOAL: Goal = Goal::AtMost(2048.0);
