//! IP addresses in text, and the networks and ranges they are looked for in.
//!
//! What counts as an address is decided here once, for text and for values alike. A text is cut into runs of letters,
//! digits, `.` and `:`. Of a run, an IPv4 address is a piece between colons, without the dots around it, that is four
//! decimal numbers to 255 (`10.0.0.12:8443`, `ip:10.0.0.12.`; not `1.10.0.0.12`, `010.0.0.12`, `v10.0.0.12`); an IPv6
//! address is what is left of it without words before a colon (`addr:fe80::1`). IPv4 addresses lie in IPv4 networks only.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use crate::block::{IndexQuery, tokenizer};

/// Addresses from one to another, of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Network {
    V4(RangeInclusive<u32>),
    V6(RangeInclusive<u128>),
}

/// An address as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    V4(u32),
    V6(u128),
}

impl Address {
    pub(super) fn read(text: &str) -> Option<Address> {
        if let Ok(v4) = text.parse::<Ipv4Addr>() {
            return Some(Address::V4(v4.to_bits()));
        }
        text.parse::<Ipv6Addr>().ok().map(|v6| Address::V6(v6.to_bits()))
    }
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`; bits behind the prefix do not matter.
    pub(super) fn read(text: &str) -> Option<Network> {
        let (address, prefix) = text.split_once('/')?;
        if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let prefix: u32 = prefix.parse().ok()?;
        match Address::read(address)? {
            Address::V4(bits) => {
                let free = u32::MAX.checked_shr(prefix).unwrap_or(0);
                (prefix <= 32).then_some(Network::V4(bits & !free..=bits | free))
            }
            Address::V6(bits) => {
                let free = u128::MAX.checked_shr(prefix).unwrap_or(0);
                (prefix <= 128).then_some(Network::V6(bits & !free..=bits | free))
            }
        }
    }

    /// The addresses between two ends, of which at least one must be given, each with whether it lies inside; `None` of
    /// ends of two kinds.
    pub(super) fn between(from: Option<(Address, bool)>, to: Option<(Address, bool)>) -> Option<Network> {
        #[expect(clippy::reversed_empty_ranges, reason = "an empty range is what is meant")]
        const NO_ADDRESS: Network = Network::V4(1..=0);
        let above = |included: bool| u32::from(!included);
        match (from, to) {
            (Some((Address::V4(a), in_a)), Some((Address::V4(b), in_b))) => Some(match (a.checked_add(above(in_a)), b.checked_sub(above(in_b))) {
                (Some(a), Some(b)) => Network::V4(a..=b),
                _ => NO_ADDRESS,
            }),
            (Some((Address::V4(a), in_a)), None) => Some(a.checked_add(above(in_a)).map_or(NO_ADDRESS, |a| Network::V4(a..=u32::MAX))),
            (None, Some((Address::V4(b), in_b))) => Some(b.checked_sub(above(in_b)).map_or(NO_ADDRESS, |b| Network::V4(0..=b))),
            (Some((Address::V6(a), in_a)), Some((Address::V6(b), in_b))) => {
                Some(match (a.checked_add(above(in_a).into()), b.checked_sub(above(in_b).into())) {
                    (Some(a), Some(b)) => Network::V6(a..=b),
                    _ => NO_ADDRESS,
                })
            }
            (Some((Address::V6(a), in_a)), None) => Some(a.checked_add(above(in_a).into()).map_or(NO_ADDRESS, |a| Network::V6(a..=u128::MAX))),
            (None, Some((Address::V6(b), in_b))) => Some(b.checked_sub(above(in_b).into()).map_or(NO_ADDRESS, |b| Network::V6(0..=b))),
            _ => None,
        }
    }

    fn contains(&self, address: Address) -> bool {
        match (self, address) {
            (Network::V4(range), Address::V4(bits)) => range.contains(&bits),
            (Network::V6(range), Address::V6(bits)) => range.contains(&bits),
            _ => false,
        }
    }

    /// Whether an address inside stands in a text.
    pub(super) fn is_in(&self, text: &str) -> bool {
        let mark = match self {
            Network::V4(_) => b'.',
            Network::V6(_) => b':',
        };
        if memchr::memchr(mark, text.as_bytes()).is_none() {
            return false;
        }
        text.split(|c: char| !is_of_run(c)).any(|run| match self {
            Network::V4(_) => run.split(':').filter_map(v4).any(|address| self.contains(address)),
            Network::V6(_) => v6(run).is_some_and(|address| self.contains(address)),
        })
    }

    /// What an index must have of every text with an address inside: more rows than match.
    pub(super) fn candidates(&self) -> IndexQuery {
        match self {
            Network::V4(range) => {
                let (from, to) = (range.start().to_be_bytes(), range.end().to_be_bytes());
                let same = (0..4).take_while(|i| from[*i] == to[*i]).count();
                let mut all = Vec::new();
                if same > 0 {
                    all.push(IndexQuery::Phrase(from[..same].iter().map(u8::to_string).collect()));
                }
                if same < 4 && (from[same], to[same]) != (0, 255) {
                    let next = from[same]..=to[same];
                    all.push(IndexQuery::Or(next.map(|octet| IndexQuery::Token(octet.to_string())).collect()));
                }
                IndexQuery::And(all)
            }
            Network::V6(range) => {
                let (from, to) = (Ipv6Addr::from_bits(*range.start()).segments(), Ipv6Addr::from_bits(*range.end()).segments());
                // the last two groups may be written as an IPv4 address, and zeros not at all
                let same = (0..6).take_while(|i| from[*i] == to[*i]).map(|i| from[i]).filter(|group| *group != 0);
                let token = |group: u16| {
                    let digits = format!("{group:x}");
                    let forms = digits.len()..=4;
                    IndexQuery::Or(forms.map(|width| IndexQuery::Token(format!("{group:0width$x}"))).collect())
                };
                IndexQuery::And(same.map(token).collect())
            }
        }
    }
}

/// Characters that go on with a token, and the two that stand between the numbers of an address.
fn is_of_run(character: char) -> bool {
    match character.is_ascii() {
        true => character.is_ascii_alphanumeric() || matches!(character, '.' | ':'),
        false => character.is_alphanumeric() && !tokenizer::stands_alone(character),
    }
}

fn v4(piece: &str) -> Option<Address> {
    let piece = piece.trim_matches('.');
    if !piece.starts_with(|c: char| c.is_ascii_digit()) || !(7..=15).contains(&piece.len()) {
        return None;
    }
    piece.parse::<Ipv4Addr>().ok().map(|address| Address::V4(address.to_bits()))
}

fn v6(run: &str) -> Option<Address> {
    let mut rest = run.trim_matches('.');
    while rest.contains(':') {
        let mut address = rest;
        if address.ends_with(':') && !address.ends_with("::") {
            address = &address[..address.len() - 1];
        }
        if address.starts_with(':') && !address.starts_with("::") {
            address = &address[1..];
        }
        if let Ok(found) = address.parse::<Ipv6Addr>() {
            return Some(Address::V6(found.to_bits()));
        }
        let (word, behind) = rest.split_once(':')?;
        if word.len() <= 4 && !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        rest = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_text_and_nothing_else_is() {
        for (network, text, expected) in [
            ("10.0.0.0/8", "by proxy 10.0.0.12:8443", true),
            ("10.0.0.0/8", "ip=10.1.2.3, next", true),
            ("10.0.0.0/8", "ip:10.1.2.3. Next", true),
            ("10.0.0.0/8", "(10.1.2.3)/24 [::ffff:10.0.0.1]", true),
            ("10.0.0.0/8", "接続10.1.2.3から", true),
            ("10.0.0.0/8", "version 1.10.0.0.12", false),
            ("10.0.0.0/8", "v10.0.0.12 10.0.0.12.example.com 010.0.0.1 10.0.0.256 10.0.0", false),
            ("10.0.0.0/8", "11.0.0.1 é10.0.0.1", false),
            ("10.0.0.12/32", "10.0.0.12", true),
            ("10.0.0.12/31", "10.0.0.13", true),
            ("10.0.0.12/31", "10.0.0.14", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("172.16.0.0/12", "172.31.255.255 x", true),
            ("172.16.0.0/12", "172.32.0.0", false),
            ("2001:db8::/32", "from 2001:0DB8::1:", true),
            ("2001:db8::/32", "[2001:db8:0:1::7]:443 addr:2001:db8::9", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("fe80::/10", "src:fe80::1%eth0", true),
            ("::1/128", "listening on [::1]:80", true),
            ("::1/128", "std::vector<a> 12:30:45 at a::b", false),
            ("::/0", "10.0.0.1", false),
        ] {
            assert_eq!(Network::read(network).expect(network).is_in(text), expected, "{network} in {text}");
        }
        for text in [
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0",
            "/8",
            "10.0.0.0/8/8",
        ] {
            assert_eq!(Network::read(text), None, "{text}");
        }
    }

    #[test]
    fn ranges_have_ends_of_one_kind() {
        let read = |text: &str| Address::read(text).expect("an address");
        let four = (read("10.0.0.255"), false);
        assert_eq!(Network::between(Some(four), None), Some(Network::V4(0x0a00_0100..=u32::MAX)));
        assert_eq!(Network::between(Some((read("::1"), true)), Some(four)), None);
        assert!(
            !Network::between(Some((read("255.255.255.255"), false)), None)
                .expect("a range")
                .is_in("255.255.255.255")
        );
    }
}
