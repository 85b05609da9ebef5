//! nutcracker (twemproxy) in front of two servers: the proxy speaks to them, the `memcache` crate
//! speaks to the proxy.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use memcache::Client;

use super::support::{self, Server};

#[test]
fn nutcracker_in_front_of_two_servers() {
    for program in std::iter::once(support::larder()).chain(support::reference()) {
        let servers = [Server::start(&program, &[]), Server::start(&program, &[])];
        let proxy = Proxy::start(&servers);
        let client = proxy.connect();
        serves(&client);
        let shares = servers.each_ref().map(stored);
        assert!(shares.iter().all(|&share| share > KEYS / 4), "{shares:?}");
        assert_eq!(shares.iter().sum::<usize>(), KEYS, "{shares:?}");
    }
}

/// What the proxy passes on of the classic commands, and leaves [`KEYS`] keys behind.
fn serves(client: &Client) {
    let name = |number: usize| format!("key:{number}");
    for number in 0..KEYS {
        client.set(&name(number), number.to_string(), 100).expect("set");
    }
    let names: Vec<String> = (0..KEYS).chain([KEYS + 1]).map(name).collect();
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = client.gets::<String>(&asked).expect("the proxy puts two answers together");
    assert_eq!(found.len(), KEYS);
    assert!((0..KEYS).all(|number| found[&name(number)] == number.to_string()));

    client.set("key:0", "v".repeat(100_000), 0).expect("a value of many buffers");
    assert_eq!(client.get::<String>("key:0").expect("get").map(|value| value.len()), Some(100_000));
    client.append("key:1", "0").expect("append");
    client.prepend("key:1", "2").expect("prepend");
    assert_eq!(client.increment("key:1", 5).expect("incr"), 215);
    assert_eq!(client.decrement("key:1", 15).expect("decr"), 200);
    client.add("key:2", "lost", 0).expect("add");
    client.replace("key:3", "three", 0).expect("replace");
    assert_eq!(client.get::<String>("key:2").expect("get").as_deref(), Some("2"));
    assert_eq!(client.get::<String>("key:3").expect("get").as_deref(), Some("three"));
    assert!(client.touch("key:4", 100).expect("touch"));
    assert!(client.delete("key:5").expect("delete"));
    assert!(!client.delete("key:5").expect("delete"));
    client.set("key:5", "5", 0).expect("set");
}

/// The items in a server.
fn stored(server: &Server) -> usize {
    let mut connection = server.connect();
    connection.write_all(b"stats\r\n").expect("the server reads");
    let lines = BufReader::new(connection).lines().map(|line| line.expect("the server answers"));
    let line = lines.take_while(|line| line != "END").find(|line| line.contains(" curr_items "));
    let count = line.as_deref().and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.expect("the count is shown")
}

/// A running nutcracker; dropping it kills the process.
struct Proxy {
    child: Child,
    folder: PathBuf,
}

impl Proxy {
    fn start(servers: &[Server]) -> Self {
        let name = format!("nutcracker-{}", servers[0].port());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("the target folder is writable");
        let socket = folder.join("socket");
        // The names decide which keys a server gets; without them its port would.
        let backends: String = servers
            .iter()
            .zip(["one", "two"])
            .map(|(server, name)| format!("    - 127.0.0.1:{}:1 {name}\n", server.port()))
            .collect();
        let configuration = format!(
            "pool:\n  listen: {} 0600\n  hash: fnv1a_64\n  distribution: ketama\n  timeout: 10000\n  \
             preconnect: true\n  servers:\n{backends}",
            socket.display()
        );
        fs::write(folder.join("conf.yml"), configuration).expect("the folder is writable");
        // Debian puts it where only root has a path to.
        let path = format!("{}:/usr/sbin", env::var("PATH").unwrap_or_default());
        let child = Command::new("nutcracker")
            .env("PATH", path)
            .current_dir(&folder)
            .args(["-c", "conf.yml", "-o", "log", "-p", "pid", "-a", "127.0.0.1"])
            .args(["-s", &free_port().to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("nutcracker: {error}; scripts/setup-tests installs it"));
        let mut proxy = Self { child, folder };
        support::await_true(
            || {
                let ended = proxy.child.try_wait().expect("a child can be asked");
                assert!(ended.is_none(), "it ended: {}", proxy.log());
                UnixStream::connect(&socket).is_ok()
            },
            "nutcracker does not listen",
        );
        proxy
    }

    fn connect(&self) -> Client {
        let url = format!(
            "memcache://{}?timeout=10&protocol=ascii",
            self.folder.join("socket").display()
        );
        Client::connect(url).unwrap_or_else(|error| panic!("{error}: {}", self.log()))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A port that was free a moment ago: nutcracker must be told one for its statistics.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

const KEYS: usize = 300;
