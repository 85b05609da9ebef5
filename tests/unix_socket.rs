//! Unix sockets: the same server behind a file. What memcached does too is asked of both.

mod support;

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::unistd::Uid;

#[test]
fn serves_as_on_tcp_and_lets_nobody_in_there() {
    for program in programs() {
        let server = Server::start(&program, &["-p", "11999", "-l", "127.0.0.1"]);
        let answers = server.ask(b"set a 0 0 1\r\nb\r\nget a\r\nversion\r\nquit\r\n");
        assert_eq!(answers, "STORED\r\nVALUE a 0 1\r\nb\r\nEND\r\nVERSION 1.6.45\r\n");
        let settings = server.ask(b"stats settings\r\nquit\r\n");
        assert!(settings.contains(&format!("domain_socket {}\r\n", server.path.display())));
        assert!(settings.contains("STAT umask 700\r\n"), "{settings}");
        let connections = server.ask(b"stats conns\r\nquit\r\n");
        assert!(connections.contains(&format!(":addr unix:{}\r\n", server.path.display())));
        assert!(connections.contains(&format!(":listen_addr unix:{}\r\n", server.path.display())));
        assert!(connections.contains(":addr ?:<AF 0>\r\n"), "{connections}");
        assert!(!connections.contains("tcp"), "{connections}");
    }
}

#[test]
fn a_pipeline_longer_than_any_buffer_is_answered() {
    let server = Server::start(&support::larder(), &[]);
    let value = "x".repeat(500_000);
    server.ask(format!("set big 0 0 {}\r\n{value}\r\nquit\r\n", value.len()).as_bytes());
    let answers = server.ask(&[b"get big\r\n".repeat(20), b"quit\r\n".to_vec()].concat());
    let answer = format!("VALUE big 0 {}\r\n{value}\r\nEND\r\n", value.len());
    assert!(answers == answer.repeat(20), "{} bytes", answers.len());
}

#[test]
fn the_mask_is_the_mode_of_the_file() {
    for program in programs() {
        for (flags, mode) in [(&[][..], 0o700), (&["-a", "777"], 0o777), (&["-a", "0600"], 0o600)] {
            let server = Server::start(&program, flags);
            let metadata = fs::metadata(&server.path).expect("it is there");
            assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{flags:?}");
            let settings = server.ask(b"stats settings\r\nquit\r\n");
            assert!(settings.contains(&format!("STAT umask {mode:o}\r\n")), "{settings}");
        }
    }
}

#[test]
fn a_socket_that_was_left_behind_is_replaced_and_nothing_else() {
    for program in programs() {
        let folder = Folder::new();
        let path = folder.0.join("left");
        drop(UnixListener::bind(&path).expect("a free path"));
        let server = Server::start_at(&program, &[], folder, path.clone());
        assert_eq!(server.ask(b"version\r\nquit\r\n"), "VERSION 1.6.45\r\n");

        let folder = Folder::new();
        let file = folder.0.join("file");
        fs::write(&file, "precious").expect("a writable folder");
        let message = failure(&program, &file, &[]);
        let expected = format!("failed to listen on UNIX socket: {}", file.display());
        assert!(message.contains(&expected), "{message}");
        assert_eq!(fs::read(&file).expect("it is still there"), b"precious");
        assert!(failure(&program, &folder.0.join("no/folder"), &[]).contains("UNIX socket"));
    }
}

/// CVE-2019-15026: memcached read beyond the name that it was given, and it cuts what is too long.
#[test]
fn cve_2019_15026_a_name_that_is_too_long_is_refused() {
    let folder = Folder::new();
    let message = failure(&support::larder(), &folder.0.join("x".repeat(108)), &[]);
    assert!(message.contains("failed to listen on UNIX socket: "), "{message}");
    assert!(fs::read_dir(&folder.0).expect("it is there").next().is_none(), "nothing was made");
}

#[test]
fn a_mask_that_is_none_is_refused() {
    let folder = Folder::new();
    for mask in ["999", "rwx", "", "-1"] {
        let message = failure(&support::larder(), &folder.0.join("socket"), &["-a", mask]);
        assert_eq!(message, format!("-a takes an octal mask, not \"{mask}\"\n"));
    }
}

#[test]
fn clients_authenticate_there_too() {
    for program in programs() {
        let folder = Folder::new();
        let users = folder.0.join("users");
        fs::write(&users, "alice:secret\n").expect("a writable folder");
        let path = folder.0.join("socket");
        let flags = ["-Y", users.to_str().expect("a plain name")];
        let server = Server::start_at(&program, &flags, folder, path);
        assert_eq!(server.ask_and_close(b"get abc\r\n"), "CLIENT_ERROR unauthenticated\r\n");
        let answers = server.ask(b"set x 0 0 12\r\nalice secret\r\nget abc\r\nquit\r\n");
        assert_eq!(answers, "STORED\r\nEND\r\n");
    }
}

/// memcached lets go of TCP clients only.
#[test]
fn a_client_that_asks_for_nothing_may_stay() {
    for program in programs() {
        let server = Server::start(&program, &["-o", "idle_timeout=1"]);
        let mut silent = UnixStream::connect(&server.path).expect("the server accepts");
        let patience = Duration::from_secs(4);
        silent.set_read_timeout(Some(patience)).expect("a socket takes its options");
        let read = silent.read(&mut [0]).expect_err("it is not closed");
        assert_eq!(read.kind(), ErrorKind::WouldBlock);
        assert!(server.ask(b"stats\r\nquit\r\n").contains("STAT idle_kicks 0\r\n"));
    }
}

#[test]
fn whoever_the_server_becomes_owns_the_socket() {
    if !Uid::effective().is_root() {
        return;
    }
    let folder = Folder::new();
    fs::set_permissions(&folder.0, Permissions::from_mode(0o777)).expect("it is ours");
    let path = folder.0.join("socket");
    let server = Server::start_at(&support::larder(), &["-u", "nobody"], folder, path);
    let nobody = nix::unistd::User::from_name("nobody").expect("readable").expect("there");
    let owner = || fs::metadata(&server.path).expect("it is there").uid();
    support::await_true(|| owner() == nobody.uid.as_raw(), "it stays root's");
}

/// larder, and memcached where there is one.
fn programs() -> impl Iterator<Item = PathBuf> {
    std::iter::once(support::larder()).chain(support::reference())
}

/// Runs a server that cannot start, and returns what it says.
fn failure(program: &Path, path: &Path, flags: &[&str]) -> String {
    let output = command(program, path, flags).output().expect("it runs");
    assert!(matches!(output.status.code(), Some(64 | 71)), "{output:?}");
    String::from_utf8(output.stderr).expect("a message")
}

fn command(program: &Path, path: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("-s").arg(path).stdout(Stdio::null());
    if Uid::effective().is_root() {
        command.args(["-u", "root"]);
    }
    command.args(flags);
    command
}

/// A running server. The process ends and the folder goes with it.
struct Server {
    child: Child,
    path: PathBuf,
    _folder: Folder,
}

impl Server {
    fn start(program: &Path, flags: &[&str]) -> Self {
        let folder = Folder::new();
        let path = folder.0.join("socket");
        Self::start_at(program, flags, folder, path)
    }

    fn start_at(program: &Path, flags: &[&str], folder: Folder, path: PathBuf) -> Self {
        let child = command(program, &path, flags).stderr(Stdio::null()).spawn().expect("it runs");
        let server = Self { child, path, _folder: folder };
        support::await_true(|| UnixStream::connect(&server.path).is_ok(), "it does not listen");
        let metadata = fs::symlink_metadata(&server.path).expect("it is there");
        assert!(metadata.file_type().is_socket());
        server
    }

    /// The answers to requests that end with `quit`.
    fn ask(&self, requests: &[u8]) -> String {
        let mut stream = self.connect();
        let mut writer = stream.try_clone().expect("a socket can be cloned");
        let mut answers = String::new();
        std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(requests).expect("the server reads"));
            stream.read_to_string(&mut answers).expect("the server closes in order");
        });
        answers
    }

    /// The answers to requests that end with the client's last word.
    fn ask_and_close(&self, requests: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(requests).expect("the server reads");
        stream.shutdown(std::net::Shutdown::Write).expect("it is open");
        let mut answers = String::new();
        stream.read_to_string(&mut answers).expect("the server closes in order");
        answers
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).expect("the server listens");
        stream.set_read_timeout(Some(support::PATIENCE)).expect("a socket takes its options");
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder with a short name, since that of a socket must be short.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let template = std::env::temp_dir().join("larder-XXXXXX");
        Self(nix::unistd::mkdtemp(&template).expect("a writable folder"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
