//! Words with digits: which parts of them are numbers, IDs, addresses.

use std::net::Ipv6Addr;

use super::mask::Mask;
use super::text::class::{ALNUM, DIGIT, HEX, LETTER};
use super::text::{CLASS, MIN_HEX_DIGITS, Scan};
use super::time;

/// Names that have digits and say what something is, not which.
const NAMES: [&str; 48] = [
    "s3", "ec2", "k8s", "http2", "http3", "h2", "h2c", "h3", "ipv4", "ipv6", "ip4", "ip6", "tcp4", "tcp6", "udp4", "udp6", "utf8", "utf16", "base64", "base32",
    "md5", "sha1", "sha256", "sha384", "sha512", "aes128", "aes256", "oauth2", "x86", "x64", "amd64", "arm64", "log4j", "log4j2", "slf4j", "i18n", "l10n",
    "mp3", "mp4", "gzip2", "int32", "int64", "uint32", "uint64", "float64", "p2p", "ssh2", "b64",
];

/// Endings of numbers in order.
const ORDINALS: [&[u8]; 4] = [b"st", b"nd", b"rd", b"th"];

/// Units of time, glued to their number.
fn is_unit_of_time(unit: &[u8]) -> bool {
    matches!(
        unit,
        b"ns"
            | b"us"
            | b"ms"
            | b"s"
            | b"sec"
            | b"secs"
            | b"m"
            | b"min"
            | b"mins"
            | b"h"
            | b"hr"
            | b"hrs"
            | b"d"
            | b"days"
            | [0xc2, 0xb5, b's']
            | [0xce, 0xbc, b's']
    )
}

/// Units of size.
fn is_unit_of_size(unit: &[u8]) -> bool {
    match unit {
        b"B" | b"b" | b"bytes" => true,
        [b'k' | b'K' | b'M' | b'G' | b'T' | b'P', rest @ ..] => matches!(rest, b"" | b"B" | b"b" | b"i" | b"iB" | b"bps"),
        [b'm' | b'g' | b't', rest @ ..] => matches!(rest, b"b" | b"ib"),
        _ => false,
    }
}

fn is_name(run: &[u8]) -> bool {
    if let [b'v' | b'V', digits @ ..] = run {
        return (1..=2).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    }
    run.len() <= 7 && NAMES.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(run))
}

/// What a run of letters and digits is.
enum Run {
    Literal,
    /// A number begins here.
    Number(usize),
    /// All of it, and what hangs behind it.
    All(Mask),
}

fn run_kind(run: &[u8]) -> Run {
    let flags = run.iter().fold(0, |flags, byte| flags | CLASS[*byte as usize]);
    if flags & DIGIT == 0 {
        return match flags == HEX && run.len() >= MIN_HEX_DIGITS {
            true => Run::All(Mask::Hex),
            false => Run::Literal,
        };
    }
    let n_letters = run.iter().take_while(|byte| CLASS[**byte as usize] & (HEX | LETTER) != 0).count();
    let n_digits = run[n_letters..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_number_at_end = n_letters + n_digits == run.len();
    if n_letters == 0 && is_number_at_end {
        return Run::Number(0);
    }
    if is_name(run) {
        return Run::Literal;
    }
    let is_hex = flags & LETTER == 0 && run.len() >= MIN_HEX_DIGITS;
    let is_prefixed = matches!(run, [b'0', b'x' | b'X', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit));
    match (is_hex || is_prefixed, is_number_at_end) {
        (true, _) => Run::All(Mask::Hex),
        (false, true) => Run::Number(n_letters),
        (false, false) if n_letters == 0 && ORDINALS.contains(&&run[n_digits..]) => Run::All(Mask::Number),
        _ => Run::All(Mask::Id),
    }
}

impl Scan<'_, '_> {
    /// Masks what varies in a word with digits.
    pub(super) fn pieces(&mut self, start: usize, end: usize) {
        let mut at = start;
        while at < end {
            let from = at;
            if self.class_at(at) & ALNUM == 0 {
                let is_sign = at == start && self.bytes[at] == b'-' && self.class_at(at + 1) & DIGIT != 0;
                at += 1;
                if !is_sign {
                    continue;
                }
            }
            at = self.piece(from, at, end);
        }
    }

    /// Reads a piece of a word, which begins with a letter or digit; gives its end. `from` is its sign, if it has one.
    fn piece(&mut self, from: usize, at: usize, end: usize) -> usize {
        if let Some(to) = uuid(self.bytes, at) {
            self.mask(Mask::Uuid, from, to);
            return to;
        }
        if self.class_at(at) & DIGIT != 0 {
            if let Some(to) = time::at(self.bytes, at) {
                self.mask(Mask::Time, from, to);
                return to;
            }
            if let Some((mask, to)) = number(self.bytes, at) {
                let to = if mask == Mask::Version { self.with_suffixes(to, end) } else { to };
                self.mask(mask, from, to);
                return to;
            }
        }
        // v1.2
        if matches!(self.bytes[at], b'v' | b'V')
            && self.class_at(at + 1) & DIGIT != 0
            && let Some((mask, to)) = number(self.bytes, at + 1)
            && (mask == Mask::Version || self.bytes[at..to].contains(&b'.'))
        {
            let to = self.with_suffixes(to, end);
            self.mask(Mask::Version, from, to);
            return to;
        }
        let is_of_run = |byte: &u8| CLASS[*byte as usize] & ALNUM != 0;
        let to = at + self.bytes[at..end].iter().take_while(|byte| is_of_run(byte)).count();
        match run_kind(&self.bytes[at..to]) {
            Run::Literal => {}
            Run::Number(0) => self.mask(Mask::Number, from, to),
            Run::Number(letters) => self.mask(Mask::Number, at + letters, to),
            Run::All(mask) => {
                let to = self.with_suffixes(to, end);
                self.mask(mask, from, to);
                return to;
            }
        }
        to
    }

    /// The end of what hangs behind a place by `-` and `_`.
    fn with_suffixes(&self, from: usize, end: usize) -> usize {
        let mut to = from;
        while to + 1 < end && matches!(self.bytes[to], b'-' | b'_') && self.class_at(to + 1) & ALNUM != 0 {
            to += 1;
            while to < end && self.class_at(to) & ALNUM != 0 {
                to += 1;
            }
        }
        to
    }

    /// An IPv6 address or the address of a network card that a word is.
    pub(super) fn network_address(&self, start: usize, end: usize) -> Option<(Mask, usize)> {
        let word = &self.text[start..end];
        let core = word.trim_end_matches(['.', '-', '_', '/']);
        if core.bytes().filter(|byte| *byte == b':').count() < 2 {
            return None;
        }
        let is_pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
        if core.len() == 17 && core.split(':').all(is_pair) {
            return Some((Mask::Mac, start + core.len()));
        }
        // of a network, its prefix is a number behind it
        let address = core.split('/').next().unwrap_or(core);
        [address, address.trim_end_matches(':')]
            .into_iter()
            .find(|address| address.parse::<Ipv6Addr>().is_ok())
            .map(|address| (Mask::Ip, start + address.len()))
    }
}

/// The end of a UUID that begins somewhere.
fn uuid(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 8) != Some(&b'-') {
        return None;
    }
    let uuid = bytes.get(at..at + 36)?;
    let fits = uuid.iter().enumerate().all(|(place, byte)| match place {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    let ends = bytes.get(at + 36).is_none_or(|byte| CLASS[*byte as usize] & ALNUM == 0);
    (fits && ends).then_some(at + 36)
}

/// A number that begins somewhere, with its dots and its unit.
fn number(bytes: &[u8], at: usize) -> Option<(Mask, usize)> {
    let digits = |from: usize| from + bytes.get(from..).map_or(0, |rest| rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
    let class = |at: usize| bytes.get(at).map_or(0, |byte| CLASS[*byte as usize]);
    let mut start = at;
    let mut kind = None;
    loop {
        let mut end = digits(start);
        let mut dots = 0;
        let mut are_octets = is_octet(&bytes[start..end]);
        while bytes.get(end) == Some(&b'.') && class(end + 1) & DIGIT != 0 {
            let part = end + 1;
            end = digits(part);
            dots += 1;
            are_octets &= is_octet(&bytes[part..end]);
        }
        let unit_end = end + bytes[end..].iter().take_while(|byte| CLASS[**byte as usize] & (HEX | LETTER) != 0).count();
        let unit = &bytes[end..unit_end];
        if unit.is_empty() {
            let mask = match dots {
                0 | 1 => Mask::Number,
                3 if are_octets => Mask::Ip,
                _ => Mask::Version,
            };
            // what was a duration so far would have gone on as one
            return kind.is_none().then_some((mask, end));
        }
        if dots >= 2 {
            let end = end + bytes[end..].iter().take_while(|byte| CLASS[**byte as usize] & ALNUM != 0).count();
            return kind.is_none().then_some((Mask::Version, end));
        }
        let more_digits = class(unit_end) & DIGIT != 0;
        if is_unit_of_time(unit) {
            kind = Some(Mask::Duration);
            match more_digits {
                true => {
                    start = unit_end;
                    continue;
                }
                false => return Some((Mask::Duration, unit_end)),
            }
        }
        if kind.is_none() && is_unit_of_size(unit) && !more_digits {
            return Some((Mask::Size, unit_end));
        }
        // an exponent
        if kind.is_none() && matches!(unit, b"e" | b"E") {
            let signed = unit_end + usize::from(matches!(bytes.get(unit_end), Some(b'+' | b'-')));
            let end = digits(signed);
            if end > signed && class(end) & ALNUM == 0 {
                return Some((Mask::Number, end));
            }
        }
        return None;
    }
}

fn is_octet(digits: &[u8]) -> bool {
    let value = digits
        .iter()
        .fold(0u32, |value, digit| value.saturating_mul(10).saturating_add(u32::from(digit - b'0')));
    digits.len() <= 3 && value <= 255
}
