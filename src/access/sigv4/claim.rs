//! What a request says of its signature: in `Authorization`, or presigned in the query.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use http::header::AUTHORIZATION;
use http::request::Parts;
use percent_encoding::percent_decode_str;

use super::{ALGORITHM, Error, MAX_EXPIRES_SECONDS, Result};

/// ISO 8601, basic.
pub(super) const TIME_FORMAT: &str = "%Y%m%dT%H%M%SZ";
/// Names in `SignedHeaders`.
const MAX_SIGNED_HEADERS: usize = 256;

/// A signature and what it claims to be of.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) key_id: String,
    pub(super) date: String,
    pub(super) region: String,
    pub(super) service: String,
    pub(super) terminator: String,
    /// Lower case, sorted, each once.
    pub(super) signed_headers: Vec<String>,
    pub(super) signature: [u8; 32],
    pub(super) time: DateTime<Utc>,
    /// `time` as [`TIME_FORMAT`].
    pub(super) time_text: String,
    /// Whether `time` is of the `Date` header, not of `X-Amz-Date`.
    pub(super) has_date_header: bool,
    /// How long a presigned request lives; `None` for `Authorization`.
    pub(super) expires: Option<TimeDelta>,
    pub(super) session_token: Option<String>,
}

/// Whether the query has a signature.
pub(super) fn is_presigned(head: &Parts) -> bool {
    let query = head.uri.query().unwrap_or_default();
    parameters(query).any(|(name, _)| name.eq_ignore_ascii_case("X-Amz-Signature") || name.eq_ignore_ascii_case("X-Amz-Algorithm"))
}

/// The parameters of a query, decoded; `+` is itself.
fn parameters(query: &str) -> impl Iterator<Item = (String, String)> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

impl Claim {
    /// `None` when the request has no signature at all.
    pub(super) fn read(head: &Parts) -> Result<Option<Claim>> {
        let mut authorizations = head.headers.get_all(AUTHORIZATION).iter();
        let is_presigned = is_presigned(head);
        let Some(authorization) = authorizations.next() else {
            return if is_presigned { Self::of_query(head).map(Some) } else { Ok(None) };
        };
        if is_presigned || authorizations.next().is_some() {
            return Err(Error::Incomplete(
                "The request has more than one signature: 'Authorization' headers, or one and the query parameter 'X-Amz-Algorithm'.".into(),
            ));
        }
        let text = authorization
            .to_str()
            .map_err(|_| Error::Incomplete("The Authorization header is not text.".into()))?;
        Self::of_authorization(head, text.trim()).map(Some)
    }

    fn of_authorization(head: &Parts, text: &str) -> Result<Claim> {
        let (algorithm, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        if algorithm.eq_ignore_ascii_case("bearer") || algorithm.eq_ignore_ascii_case("basic") {
            // a token, and not one of ours
            return Err(Error::Unrecognized);
        }
        check_algorithm(algorithm)?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in rest.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let slot = match name.trim() {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                // as AWS: what is not known does not count
                _ => continue,
            };
            if slot.replace(value.trim()).is_some() {
                return Err(Error::Incomplete(format!("Authorization header has several '{}' parameters.", name.trim())));
            }
        }
        let date = date_of_headers(head)?;
        let mut lacking = String::new();
        for (name, value) in [("Credential", credential), ("Signature", signature), ("SignedHeaders", signed_headers)] {
            if value.is_none_or(str::is_empty) {
                lacking.push_str(&format!("Authorization header requires '{name}' parameter. "));
            }
        }
        if date.is_none() {
            lacking.push_str("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ");
        }
        let (Some(credential), Some(signed_headers), Some(signature), Some(date), true) = (credential, signed_headers, signature, date, lacking.is_empty())
        else {
            return Err(Error::Incomplete(format!("{lacking}Authorization={ALGORITHM}")));
        };
        let session_token = single(head, "x-amz-security-token")?.map(str::to_string);
        let parts = Spelled {
            credential,
            signed_headers,
            signature,
        };
        Self::of_parts(&parts, date, None, session_token)
    }

    fn of_query(head: &Parts) -> Result<Claim> {
        let query = head.uri.query().unwrap_or_default();
        let mut values: [Option<String>; 7] = Default::default();
        const NAMES: [&str; 7] = [
            "X-Amz-Algorithm",
            "X-Amz-Credential",
            "X-Amz-Signature",
            "X-Amz-SignedHeaders",
            "X-Amz-Date",
            "X-Amz-Expires",
            "X-Amz-Security-Token",
        ];
        for (name, value) in parameters(query) {
            let Some(at) = NAMES.into_iter().position(|known| known == name) else {
                continue;
            };
            if values[at].replace(value).is_some() {
                return Err(Error::Incomplete(format!("AWS query-string parameters must not be given twice: '{name}'.")));
            }
        }
        if let Some(algorithm) = &values[0] {
            check_algorithm(algorithm)?;
        }
        let lacking: String = NAMES[..6]
            .iter()
            .zip(&values)
            .filter(|(_, value)| value.as_deref().is_none_or(str::is_empty))
            .map(|(name, _)| format!("AWS query-string parameters must include '{name}'. "))
            .collect();
        let [
            Some(_),
            Some(credential),
            Some(signature),
            Some(signed_headers),
            Some(date),
            Some(expires),
            session_token,
        ] = values
        else {
            return Err(Error::Incomplete(format!("{lacking}Re-examine the query-string parameters.")));
        };
        if !lacking.is_empty() {
            return Err(Error::Incomplete(format!("{lacking}Re-examine the query-string parameters.")));
        }
        let seconds = expires
            .parse::<u64>()
            .ok()
            .filter(|_| expires.bytes().all(|b| b.is_ascii_digit()))
            .ok_or_else(|| Error::Incomplete("X-Amz-Expires should be a number".into()))?;
        if !(1..=MAX_EXPIRES_SECONDS).contains(&seconds) {
            return Err(Error::Incomplete(format!(
                "X-Amz-Expires must be between 1 second and a week (in seconds); that is, the given X-Amz-Expires must be less than or equal to {MAX_EXPIRES_SECONDS} seconds"
            )));
        }
        // at most a week
        let expires = TimeDelta::seconds(i64::try_from(seconds).unwrap_or(0));
        let date = Date {
            time: iso_basic(&date).ok_or_else(|| bad_date(&date))?,
            is_of_date_header: false,
        };
        let session_token = match session_token {
            Some(token) => Some(token),
            None => single(head, "x-amz-security-token")?.map(str::to_string),
        };
        let parts = Spelled {
            credential: &credential,
            signed_headers: &signed_headers,
            signature: &signature,
        };
        Self::of_parts(&parts, date, Some(expires), session_token)
    }

    fn of_parts(parts: &Spelled<'_>, date: Date, expires: Option<TimeDelta>, session_token: Option<String>) -> Result<Claim> {
        let elements: Vec<&str> = parts.credential.split('/').collect();
        let [key_id, day, region, service, terminator] = elements[..] else {
            return Err(Error::Incomplete(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got {}",
                elements.len()
            )));
        };
        let mut signed_headers: Vec<String> = parts
            .signed_headers
            .split(';')
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty())
            .collect();
        if signed_headers.len() > MAX_SIGNED_HEADERS {
            return Err(Error::Incomplete(format!("SignedHeaders names more than {MAX_SIGNED_HEADERS} headers.")));
        }
        signed_headers.sort_unstable();
        signed_headers.dedup();
        Ok(Claim {
            key_id: key_id.to_string(),
            date: day.to_string(),
            region: region.to_string(),
            service: service.to_string(),
            terminator: terminator.to_string(),
            signed_headers,
            signature: unhex(parts.signature),
            time_text: date.time.format(TIME_FORMAT).to_string(),
            time: date.time,
            has_date_header: date.is_of_date_header,
            expires,
            session_token,
        })
    }

    /// Date, region and service.
    pub(super) fn scope(&self) -> [&str; 3] {
        [&self.date, &self.region, &self.service]
    }
}

/// The parts of a signature as they are written.
struct Spelled<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

struct Date {
    time: DateTime<Utc>,
    is_of_date_header: bool,
}

fn check_algorithm(algorithm: &str) -> Result<()> {
    if algorithm == ALGORITHM {
        return Ok(());
    }
    if algorithm.starts_with("AWS4-") || algorithm.starts_with("AWS3") {
        let shown: String = algorithm.chars().take(64).collect();
        return Err(Error::Incomplete(format!("Unsupported AWS 'algorithm': '{shown}'. {ALGORITHM} is supported.")));
    }
    Err(Error::Incomplete(format!(
        "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. \
         Authorization header requires 'SignedHeaders' parameter. Authorization must begin with '{ALGORITHM}'."
    )))
}

/// The one value of a header; more than one is a mistake.
fn single<'a>(head: &'a Parts, name: &'static str) -> Result<Option<&'a str>> {
    let mut values = head.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text.trim())),
            Err(_) => Err(Error::Incomplete(format!("The header '{name}' is not text."))),
        },
        (Some(_), Some(_)) => Err(Error::Incomplete(format!("The request has several '{name}' headers."))),
    }
}

/// `X-Amz-Date`, or else `Date` in either of its forms.
fn date_of_headers(head: &Parts) -> Result<Option<Date>> {
    if let Some(text) = single(head, "x-amz-date")? {
        return Ok(Some(Date {
            time: iso_basic(text).ok_or_else(|| bad_date(text))?,
            is_of_date_header: false,
        }));
    }
    let Some(text) = single(head, "date")? else {
        return Ok(None);
    };
    let of_mail = |text: &str| DateTime::parse_from_rfc2822(text).ok().map(|time| time.with_timezone(&Utc));
    Ok(Some(Date {
        time: iso_basic(text).or_else(|| of_mail(text)).filter(is_sane).ok_or_else(|| bad_date(text))?,
        is_of_date_header: true,
    }))
}

/// What four digits of a year can hold.
fn is_sane(time: &DateTime<Utc>) -> bool {
    (0..=253_402_300_799).contains(&time.timestamp())
}

fn bad_date(text: &str) -> Error {
    let shown: String = text.chars().take(64).collect();
    Error::Incomplete(format!(
        "Date must be in ISO-8601 'basic format'. Got '{shown}'. See http://en.wikipedia.org/wiki/ISO_8601"
    ))
}

/// `20150830T123600Z`, to the letter: chrono alone would take signs and more digits.
fn iso_basic(text: &str) -> Option<DateTime<Utc>> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = &bytes[from..to];
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0u32, |sum, digit| 10 * sum + u32::from(digit - b'0')))
    };
    let day = NaiveDate::from_ymd_opt(i32::try_from(number(0, 4)?).ok()?, number(4, 6)?, number(6, 8)?)?;
    let time = NaiveTime::from_hms_opt(number(9, 11)?, number(11, 13)?, number(13, 15)?)?;
    Some(NaiveDateTime::new(day, time).and_utc()).filter(is_sane)
}

/// The bytes of 64 lower-case hex digits. Anything else gives bytes that no signature has, so that it is answered as
/// a wrong signature is.
fn unhex(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    if text.len() != 64 {
        return [0; 32];
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
            return [0; 32];
        };
        *byte = high << 4 | low;
    }
    bytes
}
