//! Seconds in decimal, as written, to nanoseconds.

/// Significant digits that are read; nanoseconds of this era need 19.
const MAX_DIGITS: u32 = 30;

/// Reads the text of a JSON number of seconds, such as `1480615200.010` or `1.480615200090E9`, to nanoseconds.
///
/// The decimal digits are what the client meant: by way of a double, the last three digits of today's nanoseconds would
/// be noise. Digits beyond nanoseconds are rounded. `None` for what is not a number or does not fit.
pub(super) fn nanos_of_seconds(text: &str) -> Option<i64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix('+').unwrap_or(exponent).parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut digits: i128 = 0;
    let mut n_digits = 0u32;
    // the power of ten that `digits` is to be multiplied by
    let mut power = exponent.checked_add(9)?;
    for (is_fraction, byte) in whole.bytes().map(|b| (false, b)).chain(fraction.bytes().map(|b| (true, b))) {
        if n_digits >= MAX_DIGITS {
            power = power.checked_add(i32::from(!is_fraction))?;
            continue;
        }
        digits = digits * 10 + i128::from(byte - b'0');
        n_digits += u32::from(digits > 0);
        power = power.checked_sub(i32::from(is_fraction))?;
    }
    let nanos = match power {
        _ if digits == 0 => 0,
        0..=20 => digits.checked_mul(10i128.pow(power.unsigned_abs()))?,
        -37..=-1 => {
            let unit = 10i128.pow(power.unsigned_abs());
            (digits + unit / 2) / unit
        }
        ..=-38 => 0,
        21.. => return None,
    };
    i64::try_from(if negative { -nanos } else { nanos }).ok()
}

#[cfg(test)]
mod tests {
    use super::nanos_of_seconds;

    #[test]
    fn digits_are_taken_as_written() {
        for (text, nanos) in [
            ("1480615200.010", Some(1_480_615_200_010_000_000)),
            ("1.480615200090E9", Some(1_480_615_200_090_000_000)),
            ("1.480615200090e+9", Some(1_480_615_200_090_000_000)),
            ("1795320570.1106749", Some(1_795_320_570_110_674_900)),
            ("1795320570.123456789", Some(1_795_320_570_123_456_789)),
            ("1795320570.1234567895", Some(1_795_320_570_123_456_790)),
            ("1795320570", Some(1_795_320_570_000_000_000)),
            ("0", Some(0)),
            ("0.000000000", Some(0)),
            ("0e99999", Some(0)),
            ("-1.5", Some(-1_500_000_000)),
            ("1e-12", Some(0)),
            ("12345e-1", Some(1_234_500_000_000)),
            ("9223372036.854775807", Some(i64::MAX)),
            ("9223372036.854775808", None),
            ("1e400", None),
            ("1e99999999999", None),
            ("", None),
            ("\"1\"", None),
            ("1.2.3", None),
            ("true", None),
        ] {
            assert_eq!(nanos_of_seconds(text), nanos, "{text}");
        }
        let long = format!("1795320570.{}", "1".repeat(500));
        assert_eq!(nanos_of_seconds(&long), Some(1_795_320_570_111_111_111));
        assert_eq!(nanos_of_seconds(&"9".repeat(500)), None);
        assert_eq!(nanos_of_seconds(&format!("{}1", "0".repeat(500))), Some(1_000_000_000));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "-?[0-9.eE+-]{0,60}") {
            let _ = nanos_of_seconds(&text);
        }

        #[test]
        fn every_nanosecond_round_trips(nanos in 0..i64::MAX) {
            let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
            proptest::prop_assert_eq!(nanos_of_seconds(&text), Some(nanos));
        }
    }
}
