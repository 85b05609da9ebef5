//! Where to listen for TCP: `-p` and `-l` as typed become listeners.
//!
//! Without `-l` that is loopback, unlike memcached, which opens every interface: a cache without
//! authentication should be opened on purpose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use super::dialects::{Dialects, of_listener};
use crate::auth::Method;
use crate::failure::{Failure, describe};

/// A place to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    /// What those may speak who connect there.
    pub dialects: Dialects,
}

impl Listener {
    /// At an address.
    #[must_use]
    pub fn new(address: SocketAddr, dialects: Dialects) -> Self {
        Self { address, dialects }
    }
}

/// The port of `-p`, or `None` where TCP is off. 0 stands for "the system chooses".
pub(super) fn port(typed: Option<&str>) -> Result<Option<u16>, Failure> {
    let Some(typed) = typed else { return Ok(Some(PORT_DEFAULT)) };
    match parse_port(typed) {
        Some(0) if !asks_for_ephemeral(typed) => Ok(None),
        Some(port) => Ok(Some(port)),
        None => Err(Failure::usage(format!("ERROR: Invalid port number {}.", typed.trim()))),
    }
}

/// Resolves the lists of `-l`; `port` and `dialects` serve the entries that name none. No address
/// is returned twice.
pub(super) fn listeners(
    lists: &[String],
    port: u16,
    dialects: Dialects,
    method: Option<&Method>,
) -> Result<Vec<Listener>, Failure> {
    if lists.is_empty() {
        let addresses = open_on(&[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()], port);
        return Ok(addresses.iter().map(|&address| Listener::new(address, dialects)).collect());
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for typed in lists.iter().flat_map(|list| list.split([',', ';'])).map(str::trim) {
        if typed.is_empty() {
            continue;
        }
        let (dialects, resolved) = parse_entry(typed)
            .and_then(|entry| {
                let dialects = of_listener(entry.dialects, dialects, method)?;
                Ok((dialects, entry.resolve(port)?))
            })
            .map_err(|reason| complaint(lists, &reason))?;
        for address in resolved {
            if !listeners.iter().any(|listener| listener.address == address) {
                listeners.push(Listener::new(address, dialects));
            }
        }
    }
    if listeners.is_empty() {
        return Err(complaint(lists, "no address given"));
    }
    Ok(listeners)
}

/// One listener as typed. No host stands for all addresses.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    dialects: Option<Dialects>,
    host: Option<&'a str>,
    port: Option<u16>,
}

impl Entry<'_> {
    fn resolve(&self, port_default: u16) -> Result<Vec<SocketAddr>, String> {
        let port = self.port.unwrap_or(port_default);
        match self.host {
            None => {
                Ok(open_on(&[Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()], port))
            }
            Some(host) => match (host, port).to_socket_addrs() {
                Ok(addresses) => Ok(addresses.collect()),
                Err(error) => Err(format!("{host}: {}", describe(&error))),
            },
        }
    }
}

fn parse_entry(typed: &str) -> Result<Entry<'_>, String> {
    refuse_tls(typed)?;
    let (dialects, tagged) = strip_protocol(typed)?;
    let address = strip_tag(tagged)?;
    let (host, port) = if let Some(bracketed) = address.strip_prefix('[') {
        let Some((host, rest)) = bracketed.split_once(']') else {
            return Err(format!("invalid IPv6 address \"{address}\""));
        };
        (host, rest.strip_prefix(':'))
    } else {
        match address.split_once(':') {
            // More than one colon and no brackets: an IPv6 address without a port.
            Some((_, rest)) if rest.contains(':') => (address, None),
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    let port = match port {
        None => None,
        Some(typed) => {
            let invalid = || format!("invalid port number \"{typed}\"");
            Some(parse_port(typed).ok_or_else(invalid)?)
        }
    };
    Ok(Entry { dialects, host: (host != "*").then_some(host), port })
}

/// What stands before an address about TLS is of use to a server that has it.
fn refuse_tls(typed: &str) -> Result<(), String> {
    match ["notls:", "btls:", "mtls:"].iter().find(|prefix| typed.starts_with(*prefix)) {
        Some(prefix) => {
            let option = prefix.trim_end_matches(':');
            Err(format!(
                "'{option}' option is valid only when SSL is enabled, which this version cannot"
            ))
        }
        None => Ok(()),
    }
}

/// `proto[name]:` before an address. A name may be abbreviated.
fn strip_protocol(typed: &str) -> Result<(Option<Dialects>, &str), String> {
    let Some(rest) = typed.strip_prefix("proto[") else { return Ok((None, typed)) };
    let invalid = || format!("Invalid protocol spec: \"{typed}\"");
    let (name, address) = rest.split_once("]:").ok_or_else(invalid)?;
    let (_, dialects) = PROTOCOLS
        .iter()
        .find(|(full, _)| !name.is_empty() && full.starts_with(name))
        .ok_or_else(invalid)?;
    Ok((*dialects, address))
}

/// `tag[name]:` or `tag_name_:` before an address; memcached's proxy alone looks at it.
fn strip_tag(typed: &str) -> Result<&str, String> {
    let tagged = match (typed.strip_prefix("tag["), typed.strip_prefix("tag_")) {
        (Some(rest), _) => rest.split_once("]:"),
        (None, Some(rest)) => rest.split_once("_:"),
        (None, None) => return Ok(typed),
    };
    match tagged {
        Some((tag, address)) if (1..=TAG_BYTES_MAX).contains(&tag.len()) => Ok(address),
        _ => Err(format!("invalid tag in \"{typed}\"")),
    }
}

fn parse_port(typed: &str) -> Option<u16> {
    if asks_for_ephemeral(typed) { Some(0) } else { typed.trim().parse().ok() }
}

fn asks_for_ephemeral(typed: &str) -> bool {
    typed.trim() == "-1"
}

/// Those of `hosts` that this machine has: one without IPv6 is served on IPv4 alone.
fn open_on(hosts: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    let has = |host: &&IpAddr| host.is_ipv4() || TcpListener::bind((**host, 0)).is_ok();
    hosts.iter().filter(has).map(|host| SocketAddr::from((*host, port))).collect()
}

fn complaint(lists: &[String], reason: &str) -> Failure {
    let typed = lists.join(",");
    Failure::system(format!("failed to listen on one of interface(s) {typed}: {reason}"))
}

const PROTOCOLS: [(&str, Option<Dialects>); 4] = [
    ("ascii", Some(Dialects::Text)),
    ("binary", Some(Dialects::Binary)),
    ("negotiating", Some(Dialects::Any)),
    // No name of memcached's, which leaves such a listener what -B says.
    ("auto", None),
];
const PORT_DEFAULT: u16 = 11211;
const TAG_BYTES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(lists: &[String], port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let listeners = listeners(lists, port, Dialects::Any, None)?;
        Ok(listeners.iter().map(|listener| listener.address).collect())
    }

    #[test]
    fn reads_ports_as_memcached_does() {
        assert_eq!(port(None), Ok(Some(11211)));
        assert_eq!(port(Some("8080")), Ok(Some(8080)));
        assert_eq!(port(Some(" -1")), Ok(Some(0)));
        assert_eq!(port(Some("0")), Ok(None));
        for bad in ["65536", "-2", "abc", ""] {
            let message = format!("ERROR: Invalid port number {bad}.");
            assert_eq!(port(Some(bad)), Err(Failure::usage(message)));
        }
    }

    #[test]
    fn reads_every_form_of_an_entry() {
        let table: &[(&str, Option<&str>, Option<u16>)] = &[
            ("127.0.0.1", Some("127.0.0.1"), None),
            ("127.0.0.1:1234", Some("127.0.0.1"), Some(1234)),
            ("localhost:-1", Some("localhost"), Some(0)),
            ("::1", Some("::1"), None),
            ("[::1]", Some("::1"), None),
            ("[fe80::1%eth0]:1234", Some("fe80::1%eth0"), Some(1234)),
            ("*", None, None),
            ("*:1234", None, Some(1234)),
            ("proto[ascii]:127.0.0.1:1", Some("127.0.0.1"), Some(1)),
            ("proto[negotiating]:tag[a]:::1", Some("::1"), None),
            ("tag_tools_:*:1", None, Some(1)),
        ];
        for &(typed, host, port) in table {
            let entry = parse_entry(typed).map(|entry| (entry.host, entry.port));
            assert_eq!(entry, Ok((host, port)), "{typed}");
        }
    }

    #[test]
    fn an_entry_may_name_its_protocol() {
        let table = [
            ("127.0.0.1", None),
            ("proto[ascii]:127.0.0.1", Some(Dialects::Text)),
            ("proto[a]:127.0.0.1", Some(Dialects::Text)),
            ("proto[binary]:tag[a]:127.0.0.1", Some(Dialects::Binary)),
            ("proto[negotiating]:[::1]:5", Some(Dialects::Any)),
            ("proto[auto]:127.0.0.1", None),
        ];
        for (typed, dialects) in table {
            assert_eq!(parse_entry(typed).map(|entry| entry.dialects), Ok(dialects), "{typed}");
        }
    }

    #[test]
    fn refuses_what_is_of_use_to_tls_alone() {
        for option in ["notls", "btls", "mtls"] {
            let reason = parse_entry(&format!("{option}:127.0.0.1")).expect_err(option);
            let expected = format!("'{option}' option is valid only when SSL is enabled");
            assert!(reason.starts_with(&expected), "{reason}");
        }
    }

    #[test]
    fn refuses_malformed_entries() {
        for typed in [
            "[::1",
            "127.0.0.1:abc",
            "127.0.0.1:65536",
            "proto[]:127.0.0.1",
            "proto[proxy]:127.0.0.1",
            "proto[ascii:127.0.0.1",
            "tag[ninechars]:127.0.0.1",
            "tag[]:127.0.0.1",
        ] {
            assert!(parse_entry(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn lists_add_up_and_repeat_nothing() {
        let lists = ["127.0.0.1,127.0.0.2:7;127.0.0.1".to_owned(), "127.0.0.1".to_owned()];
        let expected: Vec<SocketAddr> =
            vec!["127.0.0.1:5".parse().unwrap(), "127.0.0.2:7".parse().unwrap()];
        assert_eq!(addresses(&lists, 5), Ok(expected));
    }

    #[test]
    fn listens_on_loopback_unless_told_otherwise() {
        let addresses = addresses(&[], 5).unwrap();
        assert_eq!(addresses[0], "127.0.0.1:5".parse().unwrap());
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn names_the_list_it_cannot_listen_on() {
        let message =
            "failed to listen on one of interface(s) 127.0.0.1:x: invalid port number \"x\"";
        assert_eq!(addresses(&["127.0.0.1:x".to_owned()], 5), Err(Failure::system(message)));
        assert!(addresses(&[",".to_owned()], 5).is_err());
    }
}
