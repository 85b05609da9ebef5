//! Datagrams: `-U` as typed becomes listeners, where that harms nobody.
//!
//! The sender of a datagram may not be who it says, so a server that answers datagrams can be made
//! to send what its victim never asked for. memcached opened to the Internet did so at fifty
//! thousand times what it was sent. It is therefore off, and on a public address it takes a word
//! more.

use std::net::{IpAddr, Ipv6Addr};

use super::{Args, Dialects, Listener, listen, parse_size};
use crate::auth::Method;
use crate::failure::Failure;

/// The port of `-U`, or `None` where datagrams are off. 0 stands for "the system chooses".
pub(super) fn port(args: &Args, method: Option<&Method>) -> Result<Option<u16>, Failure> {
    let Some(typed) = args.udp_port.as_deref() else { return Ok(None) };
    let port = listen::port(Some(typed))?;
    match (port, method) {
        (Some(_), Some(Method::Token)) => Err(Failure::usage(
            "Cannot use UDP with ascii authentication enabled (-U 0 to disable)",
        )),
        (Some(_), Some(Method::Sasl { .. })) => {
            Err(Failure::usage("ERROR: Cannot enable UDP while using binary SASL authentication."))
        }
        (port, _) => Ok(port),
    }
}

/// Where datagrams are to come to: the addresses of `-l`.
pub(super) fn listeners(
    args: &Args,
    port: u16,
    dialects: Dialects,
) -> Result<Vec<Listener>, Failure> {
    let listeners = listen::listeners(&args.listen, port, dialects, None)?;
    let public = listeners.iter().find(|listener| !is_private(listener.address.ip()));
    match public {
        Some(Listener { address, .. }) if !args.public_udp => Err(Failure::usage(format!(
            "-U on {address}, which may be public, lets anybody have replies sent to others. \
             Name private addresses with -l, or say --public-udp as well"
        ))),
        _ => Ok(listeners),
    }
}

/// Bytes a second that may be sent to one address.
pub(super) fn bytes_per_second(typed: Option<&str>) -> Result<u32, Failure> {
    let Some(typed) = typed else { return Ok(BYTES_PER_SECOND_DEFAULT) };
    let bytes = parse_size(typed, 1).and_then(|bytes| u32::try_from(bytes).ok());
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| {
        Failure::usage(format!(
            "--udp-rate takes bytes a second, or a size such as 2m, not \"{typed}\""
        ))
    })
}

/// Whether packets to this address stay within networks of its owner's.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_private() || address.is_link_local()
        }
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => is_private(IpAddr::V4(address)),
            None => is_private_v6(address),
        },
    }
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
}

const BYTES_PER_SECOND_DEFAULT: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn config(line: &str) -> Result<Config, Failure> {
        let words = std::iter::once("larder").chain(line.split_whitespace());
        Config::new(&Args::parse_words(words).expect(line), None)
    }

    fn ports(line: &str) -> (Option<u16>, Option<u16>) {
        let config = config(line).expect(line);
        let port = |listeners: &[Listener]| listeners.first().map(|one| one.address.port());
        (port(&config.listen), port(&config.udp))
    }

    #[test]
    fn the_port_of_datagrams_is_that_of_tcp_unless_another_is_named() {
        let table = [
            ("", (Some(11211), None)),
            ("-U 0", (Some(11211), None)),
            ("-U 11222", (Some(11222), Some(11222))),
            ("-U -1", (Some(0), Some(0))),
            ("-p 11232 -U 11233", (Some(11232), Some(11233))),
            ("-p 11242 -U 0", (Some(11242), None)),
            ("-p 0 -U 11233", (None, Some(11233))),
            ("-U 5 -l 127.0.0.1:7", (Some(7), Some(7))),
            ("-U 5 -s /tmp/socket", (None, None)),
        ];
        for (line, expected) in table {
            assert_eq!(ports(line), expected, "{line}");
        }
    }

    /// CVE-2018-1000115.
    #[test]
    fn cve_2018_1000115_public_addresses_take_a_word_more() {
        for address in ["0.0.0.0", "*", "8.8.8.8", "[::]", "[2001:db8::1]", "[::ffff:8.8.8.8]"] {
            let line = format!("-U 11211 -l {address}");
            let failure = config(&line).expect_err(&line);
            assert!(failure.to_string().contains("--public-udp"), "{line}: {failure}");
            assert!(config(&format!("{line} --public-udp")).is_ok(), "{line}");
            assert!(config(&format!("-U 0 -l {address}")).is_ok(), "{line}");
        }
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "169.254.0.1",
            "[::1]",
            "[fd00::1]",
            "[fe80::1]",
            "[::ffff:10.0.0.1]",
        ] {
            assert!(config(&format!("-U 11211 -l {address}")).is_ok(), "{address}");
        }
        assert!(config("-U 11211 -l 127.0.0.1,8.8.8.8").is_err());
    }

    #[test]
    fn what_a_source_is_sent_takes_units() {
        assert_eq!(config("").map(|config| config.udp_bytes_per_second), Ok(1 << 20));
        assert_eq!(config("--udp-rate 64k").map(|config| config.udp_bytes_per_second), Ok(65536));
        for bad in ["0", "-1", "much", "5g"] {
            assert!(config(&format!("--udp-rate {bad}")).is_err(), "{bad}");
        }
    }
}
