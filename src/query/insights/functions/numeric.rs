//! Functions of numbers.

use super::{Arguments, Function, function};
use crate::query::insights::value::{Number, Value};

/// Mean radius of the Earth, kilometres.
const EARTH_RADIUS_KM: f64 = 6_371.0;

pub(super) const FUNCTIONS: &[Function] = &[
    function("abs", 1, 1, |arguments| match arguments.value(0).number() {
        Some(Number::Whole(whole)) => whole.checked_abs().map_or(Value::Null, Value::Whole),
        Some(Number::Double(double)) => Value::double(double.abs()),
        None => Value::Null,
    }),
    function("ceil", 1, 1, |arguments| of(arguments, f64::ceil)),
    function("floor", 1, 1, |arguments| of(arguments, f64::floor)),
    function("sqrt", 1, 1, |arguments| of(arguments, f64::sqrt)),
    // the natural one
    function("log", 1, 1, |arguments| of(arguments, f64::ln)),
    function("greatest", 1, usize::MAX, |arguments| extreme(arguments, |order| order.is_gt())),
    function("least", 1, usize::MAX, |arguments| extreme(arguments, |order| order.is_lt())),
    function("round", 1, 2, round),
    function("haversine", 4, 4, haversine),
    function("tonumber", 1, 1, |arguments| arguments.value(0).number().map_or(Value::Null, Value::from)),
    function("todouble", 1, 1, |arguments| arguments.value(0).number().map_or(Value::Null, Value::from)),
    function("toint", 1, 1, |arguments| whole(arguments, i64::from(i32::MIN), i64::from(i32::MAX))),
    function("tolong", 1, 1, |arguments| whole(arguments, i64::MIN, i64::MAX)),
    function("isnumeric", 1, 1, |arguments| Value::Flag(arguments.value(0).number().is_some())),
];

fn of(arguments: &Arguments<'_>, function: fn(f64) -> f64) -> Value {
    match arguments.value(0).number() {
        // rounding keeps whole numbers that a double would not
        Some(Number::Whole(whole)) if function(0.5).fract() == 0.0 => Value::Whole(whole),
        Some(number) => Value::double(function(number.as_f64())),
        None => Value::Null,
    }
}

/// Of those that are numbers.
fn extreme(arguments: &Arguments<'_>, replaces: fn(std::cmp::Ordering) -> bool) -> Value {
    let numbers = arguments.values.iter().filter_map(Value::number);
    let best = numbers.reduce(|best, number| if replaces(number.compare(best)) { number } else { best });
    best.map_or(Value::Null, Value::from)
}

fn round(arguments: &Arguments<'_>) -> Value {
    let digits = arguments.whole(1).unwrap_or_default();
    match arguments.value(0).number() {
        Some(Number::Whole(whole)) if digits >= 0 => Value::Whole(whole),
        Some(number) if (-300..=15).contains(&digits) => {
            let factor = 10f64.powi(digits as i32);
            Value::double((number.as_f64() * factor).round() / factor)
        }
        Some(number) => number.into(),
        None => Value::Null,
    }
}

/// Without its fraction.
fn whole(arguments: &Arguments<'_>, least: i64, most: i64) -> Value {
    match arguments.value(0).number() {
        Some(Number::Whole(whole)) if (least..=most).contains(&whole) => Value::Whole(whole),
        // as a double, the most of 64 bits is one more than it is
        Some(Number::Double(double)) if double.trunc() >= least as f64 && double.trunc() < most as f64 + 1.0 => Value::Whole(double as i64),
        _ => Value::Null,
    }
}

/// Kilometres between two places, each latitude and longitude in degrees.
fn haversine(arguments: &Arguments<'_>) -> Value {
    let degree = |place| arguments.number(place).map(f64::to_radians);
    let (Some(lat), Some(lon), Some(other_lat), Some(other_lon)) = (degree(0), degree(1), degree(2), degree(3)) else {
        return Value::Null;
    };
    let half = |a: f64, b: f64| ((b - a) / 2.0).sin().powi(2);
    let chord = half(lat, other_lat) + lat.cos() * other_lat.cos() * half(lon, other_lon);
    Value::double(2.0 * EARTH_RADIUS_KM * chord.sqrt().min(1.0).asin())
}
