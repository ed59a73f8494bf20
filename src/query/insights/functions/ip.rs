//! Functions of IP addresses in texts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Arguments, Function, function};
use crate::query::insights::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    function("isvalidip", 1, 1, |arguments| Value::Flag(address(arguments).is_some())),
    function("isvalidipv4", 1, 1, |arguments| Value::Flag(matches!(address(arguments), Some(IpAddr::V4(_))))),
    function("isvalidipv6", 1, 1, |arguments| Value::Flag(matches!(address(arguments), Some(IpAddr::V6(_))))),
    function("isipinsubnet", 2, 2, |arguments| in_subnet(arguments, |_| true)),
    function("isipv4insubnet", 2, 2, |arguments| in_subnet(arguments, |ip| ip.is_ipv4())),
    function("isipv6insubnet", 2, 2, |arguments| in_subnet(arguments, |ip| ip.is_ipv6())),
    function("ipv4tonumber", 1, 1, |arguments| match address(arguments) {
        Some(IpAddr::V4(ip)) => Value::Whole(i64::from(u32::from(ip))),
        _ => Value::Null,
    }),
    function("isprivateip", 1, 1, |arguments| tested(arguments, is_private)),
    function("isreservedip", 1, 1, |arguments| tested(arguments, is_reserved)),
    function("ispublicip", 1, 1, |arguments| tested(arguments, |ip| !is_private(ip) && !is_reserved(ip))),
];

fn address(arguments: &Arguments<'_>) -> Option<IpAddr> {
    arguments.text(0)?.trim().parse().ok()
}

fn tested(arguments: &Arguments<'_>, test: fn(IpAddr) -> bool) -> Value {
    Value::Flag(address(arguments).is_some_and(test))
}

fn in_subnet(arguments: &Arguments<'_>, is_kind: fn(IpAddr) -> bool) -> Value {
    let inside = || {
        let ip = address(arguments)?;
        let text = arguments.text(1)?;
        let (network, bits) = text.trim().split_once('/')?;
        let (network, bits): (IpAddr, u32) = (network.parse().ok()?, bits.parse().ok()?);
        Some(is_kind(ip) && is_kind(network) && within(ip, network, bits)?)
    };
    Value::Flag(inside().unwrap_or(false))
}

fn within(ip: IpAddr, network: IpAddr, bits: u32) -> Option<bool> {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            Some(u32::from(ip) & mask == u32::from(network) & mask)
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            Some(u128::from(ip) & mask == u128::from(network) & mask)
        }
        (_, _) => None,
    }
}

/// RFC 1918, and unique local addresses.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// Loopback, link-local, multicast, documentation and the other blocks that IANA keeps, private ones apart.
fn is_reserved(ip: IpAddr) -> bool {
    fn v4(ip: Ipv4Addr) -> bool {
        let [a, b, c, _] = ip.octets();
        ip.is_loopback()
            || ip.is_link_local()
            || ip.is_multicast()
            || ip.is_documentation()
            || a == 0
            || a >= 240
            || (a == 100 && (64..128).contains(&b))
            || (a == 192 && b == 0 && c == 0)
            || (a == 198 && (b == 18 || b == 19))
    }
    fn v6(ip: Ipv6Addr) -> bool {
        let [a, b, ..] = ip.segments();
        ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() || (a == 0x2001 && b == 0x0db8)
    }
    match ip {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => v6(ip),
    }
}
