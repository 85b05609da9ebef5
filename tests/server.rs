//! The server as a whole, over raw sockets: what connections cost, how they are spread, and how
//! they end.

mod support;

use larder::config::Config;
use larder::server::Server;
use std::io::Read;
use std::net::TcpStream;
use std::thread;
use support::Random;
use support::client::Client;

#[test]
fn connections_are_spread_evenly() {
    let server = start(Config { threads: 4, ..Config::tiny() });
    let mut clients: Vec<_> = (0..50).map(|_| Client::greeted(&server)).collect();
    let mut counts = clients[0].connections_per_worker();
    counts.sort_unstable();
    assert_eq!(counts, [12, 12, 13, 13]);
    // Whoever leaves makes room at his own worker.
    clients.truncate(10);
    clients[0].wait_until(|client| client.figure("stats", "curr_connections") == 10);
    clients.extend((0..40).map(|_| Client::greeted(&server)));
    let mut counts = clients[0].connections_per_worker();
    counts.sort_unstable();
    assert_eq!(counts, [12, 12, 13, 13]);
}

#[test]
fn a_connection_too_many_is_told_so() {
    let server = start(Config { connections_max: 2, ..Config::tiny() });
    let mut first = Client::greeted(&server);
    let second = Client::greeted(&server);
    let mut third = Client::connect(&server);
    assert_eq!(third.rest(), b"ERROR Too many open connections\r\n");
    assert_eq!(first.figure("stats", "rejected_connections"), 1);
    drop(second);
    first.wait_until(|client| client.figure("stats", "curr_connections") == 1);
    Client::greeted(&server);
}

#[test]
fn idle_connections_hold_no_buffers() {
    let server = start(Config::tiny());
    let mut clients: Vec<_> = (0..50).map(|_| Client::greeted(&server)).collect();
    assert_eq!(clients[0].figure("stats larder", "connection_buffer_bytes"), 0);
    // Half a request is kept, and no more than that.
    for client in &mut clients[1..] {
        client.send(b"set a 0 0 10\r\n12345");
    }
    clients[0].wait_until(|client| {
        let bytes = client.figure("stats larder", "connection_buffer_bytes");
        assert!(bytes <= 49 * 64, "{bytes} bytes");
        client.list("stats conns").iter().filter(|line| line.ends_with("conn_nread")).count() == 49
    });
    clients.truncate(1);
    clients[0].wait_until(|client| client.figure("stats larder", "connection_buffer_bytes") == 0);
    assert_eq!(clients[0].ask("get a"), "END", "half a value is none");
}

#[test]
fn a_client_that_does_not_read_costs_one_output_buffer() {
    let config = Config::tiny();
    let bytes_max = (config.output_limit_bytes + VALUE_BYTES + 256) as u64;
    let server = start(config);
    let mut observer = Client::greeted(&server);
    observer.store_large_value();
    let mut slow = Client::greeted(&server);
    for _ in 0..200 {
        slow.send(b"get big big big big big\r\n");
    }
    observer.wait_until(|client| {
        client.list("stats conns").iter().any(|line| line.ends_with("conn_mwrite"))
    });
    for _ in 0..100 {
        let bytes = observer.figure("stats larder", "connection_buffer_bytes");
        // Its unread requests, and twice as much output as the buffer had to grow.
        assert!(bytes <= 200 * 32 + 2 * bytes_max, "{bytes} bytes");
    }
    slow.send(b"quit\r\n");
    let replies = slow.rest();
    assert_eq!(replies.len(), 200 * (5 * (VALUE_HEADER.len() + VALUE_BYTES + 2) + END.len()));
    observer.wait_until(|client| client.figure("stats larder", "connection_buffer_bytes") == 0);
}

#[test]
fn stopping_completes_a_reply_that_has_begun() {
    let server = start(Config::tiny());
    let mut client = Client::greeted(&server);
    client.store_large_value();
    let idle = Client::greeted(&server);
    client.send(format!("get{}\r\n", " big".repeat(100)).as_bytes());
    let mut begin = [0; 1];
    client.0.read_exact(&mut begin).expect("the reply begins");
    let stopping = thread::spawn(move || server.stop());
    let reply = client.rest();
    assert!(reply.ends_with(END));
    assert_eq!(1 + reply.len(), 100 * (VALUE_HEADER.len() + VALUE_BYTES + 2) + END.len());
    stopping.join().expect("the server stops");
    drop(idle);
}

#[test]
fn stopping_does_not_wait_for_a_client_that_does_not_read() {
    let server = start(Config::tiny());
    let mut client = Client::greeted(&server);
    client.store_large_value();
    client.send(format!("get{}\r\n", " big".repeat(100)).as_bytes());
    server.stop();
}

#[test]
fn a_client_can_stop_the_server_if_it_may() {
    let server = start(Config { shutdown_allowed: false, ..Config::tiny() });
    let reply = Client::greeted(&server).ask("shutdown");
    assert_eq!(reply, "SERVER_ERROR: shutdown not enabled");
    let server = start(Config::tiny());
    let mut client = Client::greeted(&server);
    client.send(b"shutdown\r\n");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(server.shutdown_requested());
    assert_eq!(client.rest(), b"");
    server.stop();
}

#[test]
fn replies_before_quit_are_sent_and_what_follows_is_dropped() {
    let server = start(Config::tiny());
    let mut client = Client::connect(&server);
    client.send(b"version\r\nversion\r\nquit\r\nversion\r\n");
    assert_eq!(client.rest(), b"VERSION 1.6.45\r\nVERSION 1.6.45\r\n");
}

#[test]
fn a_long_pipeline_is_served_in_turns() {
    let server = start(Config::tiny());
    let mut client = Client::greeted(&server);
    client.send(b"get missing\r\n".repeat(10_000));
    for _ in 0..10_000 {
        assert_eq!(client.line(), "END");
    }
    let yields = client.figure("stats", "conn_yields");
    assert!((1000..=10_000).contains(&yields), "{yields} yields");
}

#[test]
fn a_large_value_arrives_whole_and_its_memory_is_given_back() {
    let server = start(Config::tiny());
    let mut client = Client::greeted(&server);
    client.store_large_value();
    client.send(b"get big\r\nquit\r\n");
    let mut observer = Client::greeted(&server);
    let expect = format!("{VALUE_HEADER}{}\r\nEND\r\n", "x".repeat(VALUE_BYTES));
    assert_eq!(client.rest(), expect.as_bytes());
    observer.wait_until(|client| client.figure("stats larder", "connection_buffer_bytes") == 0);
}

#[test]
fn clients_with_one_get_each_get_their_own_reply() {
    let server = start(Config { threads: 1, ..Config::tiny() });
    let mut clients: Vec<_> = (0..50).map(|_| Client::greeted(&server)).collect();
    for number in 0..50 {
        let bytes = if number % 10 == 0 { 50_000 } else { number };
        let value = format!("{number:02}").repeat(bytes / 2);
        let stored = clients[0].ask(&format!("set key{number} 7 0 {}\r\n{value}", value.len()));
        assert_eq!(stored, "STORED");
    }
    for round in 0..40 {
        // Two kinds, which cannot be looked up together; some keys that are not there.
        for (number, client) in clients.iter_mut().enumerate() {
            let command = if (number + round) % 7 == 0 { "gets" } else { "get" };
            client.send(format!("{command} key{}\r\n", number + round).as_bytes());
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let key = number + round;
            if key < 50 {
                let header = client.line();
                let fields: Vec<_> = header.split(' ').collect();
                assert_eq!(fields[..3], ["VALUE", format!("key{key}").as_str(), "7"]);
                assert_eq!(fields.len(), if key % 7 == 0 { 5 } else { 4 });
                let value = client.line();
                assert_eq!(value.len(), fields[3].parse().expect("a length"));
                assert!(
                    value.as_bytes().chunks(2).all(|pair| pair == format!("{key:02}").as_bytes())
                );
            }
            assert_eq!(client.line(), "END");
        }
    }
    let gets = clients[0].figure("stats", "cmd_get");
    assert_eq!(gets, 50 * 40);
}

/// What comes in one turn of the event loop from many connections is served together: requests of
/// every kind, in pieces cut anywhere, each of which must go on where its own connection left off.
#[test]
fn requests_of_every_kind_in_any_pieces_are_answered_to_whom_they_are_of() {
    let random = &mut Random(0x6761_7468_6572);
    let server = start(Config {
        threads: 1,
        backlog: 1024,
        requests_per_turn: 3,
        output_limit_bytes: 2000,
        ..Config::tiny()
    });
    for _ in 0..20 {
        let mut clients: Vec<_> = (0..60).map(|_| Client::connect(&server)).collect();
        let scripts: Vec<_> = (0..60).map(|number| script(number, random)).collect();
        let mut sent = vec![0; scripts.len()];
        while sent.iter().zip(&scripts).any(|(&sent, (requests, _))| sent < requests.len()) {
            for ((client, sent), (requests, _)) in clients.iter_mut().zip(&mut sent).zip(&scripts) {
                let piece_bytes = random.below(300).min(requests.len() - *sent);
                client.send(&requests[*sent..*sent + piece_bytes]);
                *sent += piece_bytes;
            }
        }
        for (client, (_, replies)) in clients.iter_mut().zip(&scripts) {
            let rest = client.rest();
            assert_eq!(rest.escape_ascii().to_string(), replies.escape_ascii().to_string());
        }
    }
}

/// Requests of a client by this number, and the replies to them.
fn script(number: usize, random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    let key = format!("client{number}");
    let value = format!("{number:02}").repeat(random.below(200));
    let bytes = value.len();
    let mut requests = format!("set {key} 7 0 {bytes}\r\n{value}\r\n");
    let mut replies = "STORED\r\n".to_owned();
    for _ in 0..random.below(20) {
        let (request, reply) = match random.below(9) {
            0..3 => {
                (format!("get {key}\r\n"), format!("VALUE {key} 7 {bytes}\r\n{value}\r\nEND\r\n"))
            }
            3 => (
                format!("mg {key} v O{number} f\r\n"),
                format!("VA {bytes} O{number} f7\r\n{value}\r\n"),
            ),
            4 => (format!("mg missing{number} v q\r\nmn\r\n"), "MN\r\n".to_owned()),
            5 => (
                format!("gat 0 {key} missing {key}\r\n"),
                format!("{}END\r\n", format!("VALUE {key} 7 {bytes}\r\n{value}\r\n").repeat(2)),
            ),
            6 => (format!("set {key}x 0 0 {bytes} noreply\r\n{value}\r\n"), String::new()),
            7 => {
                (format!("ms {key}y {bytes} O{number}\r\n{value}\r\n"), format!("HD O{number}\r\n"))
            }
            _ => (format!("bogus {key}\r\n"), "ERROR\r\n".to_owned()),
        };
        requests += &request;
        replies += &reply;
    }
    requests += "quit\r\n";
    (requests.into_bytes(), replies.into_bytes())
}

#[test]
fn a_client_that_does_not_read_its_lone_gets_does_not_disturb_others() {
    let server = start(Config { threads: 1, ..Config::tiny() });
    let mut observer = Client::greeted(&server);
    observer.store_large_value();
    let mut slow = Client::greeted(&server);
    let mut sent = 0;
    // What the sockets take between the two is the system's to say.
    observer.wait_until(|observer| {
        slow.send(b"get big\r\n");
        sent += 1;
        assert_eq!(observer.ask("get missing"), "END");
        observer.list("stats conns").iter().any(|line| line.ends_with("conn_mwrite"))
    });
    drop(Client::greeted(&server));
    slow.send(b"quit\r\n");
    let reply_bytes = VALUE_HEADER.len() + VALUE_BYTES + 2 + END.len();
    assert_eq!(slow.rest().len(), sent * reply_bytes);
    observer.wait_until(|client| client.figure("stats larder", "connection_buffer_bytes") == 0);
}

#[test]
fn whoever_leaves_without_his_reply_is_forgotten() {
    let server = start(Config { threads: 1, backlog: 1024, ..Config::tiny() });
    let mut observer = Client::greeted(&server);
    observer.store_large_value();
    for _ in 0..20 {
        let mut clients: Vec<_> = (0..40).map(|_| Client::greeted(&server)).collect();
        clients.iter_mut().for_each(|client| client.send(b"get big\r\n"));
        drop(clients);
        observer.wait_until(|client| client.figure("stats", "curr_connections") == 1);
    }
    observer.wait_until(|client| client.figure("stats larder", "connection_buffer_bytes") == 0);
}

#[test]
fn stopping_leaves_no_lone_get_half_answered() {
    let server = start(Config { threads: 1, ..Config::tiny() });
    let mut clients: Vec<_> = (0..40).map(|_| Client::greeted(&server)).collect();
    clients[0].store_large_value();
    clients.iter_mut().for_each(|client| client.send(b"get big\r\n"));
    let stopping = thread::spawn(move || server.stop());
    let whole_bytes = VALUE_HEADER.len() + VALUE_BYTES + 2 + END.len();
    for mut client in clients {
        let reply = client.rest();
        assert!([0, whole_bytes].contains(&reply.len()), "{} bytes", reply.len());
    }
    stopping.join().expect("the server stops");
}

#[test]
fn connections_leave_nothing_behind() {
    let server = start(Config { backlog: 1024, ..Config::tiny() });
    let mut client = Client::greeted(&server);
    for _ in 0..1000 {
        drop(Client::connect(&server));
    }
    client.wait_until(|client| {
        let welcomed = client.figure("stats", "total_connections");
        welcomed + client.figure("stats", "rejected_connections") > 1000
    });
    client.wait_until(|client| client.figure("stats", "curr_connections") == 1);
    let lines = client.list("stats conns");
    assert_eq!(lines.len(), 3 + 4, "a listener and this connection: {lines:?}");
}

impl Client {
    fn connect(server: &Server) -> Self {
        Self::new(TcpStream::connect(server.addresses()[0]).expect("the server listens"))
    }

    /// A client whose connection is known to be served.
    fn greeted(server: &Server) -> Self {
        let mut client = Self::connect(server);
        assert_eq!(client.ask("version"), "VERSION 1.6.45");
        client
    }

    fn connections_per_worker(&mut self) -> Vec<u64> {
        let lines = self.list("stats larder");
        let counts = lines.iter().filter(|line| line.starts_with("STAT worker:"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
    }

    fn store_large_value(&mut self) {
        let value = "x".repeat(VALUE_BYTES);
        assert_eq!(self.ask(&format!("set big 0 0 {VALUE_BYTES}\r\n{value}")), "STORED");
    }

    /// Asks until the answer is right; each time is a round trip, so others get on meanwhile.
    fn wait_until(&mut self, mut condition: impl FnMut(&mut Self) -> bool) {
        for _ in 0..100_000 {
            if condition(self) {
                return;
            }
        }
        panic!("the server never came that far");
    }
}

fn start(config: Config) -> Server {
    Server::start(config).expect("the server starts")
}

const VALUE_BYTES: usize = 200_000;
const VALUE_HEADER: &str = "VALUE big 0 200000\r\n";
const END: &[u8] = b"END\r\n";
