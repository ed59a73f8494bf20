//! CBOR (RFC 8949) as Smithy's RPC protocol uses it: maps with text keys, lists, text, numbers, and tag 1 for times, in
//! definite or indefinite length.

use minicbor::Decoder;
use minicbor::data::Type;

use super::{Fault, MAX_DEPTH, Node, Nodes};

pub(super) fn read(body: &[u8]) -> Result<Node, Fault> {
    let mut decoder = Decoder::new(body);
    let node = node(&mut decoder, &mut Nodes::default(), 0)?;
    if decoder.position() != body.len() {
        return Err(Fault::Serialization("there is more after the CBOR value".into()));
    }
    Ok(node)
}

fn malformed(error: minicbor::decode::Error) -> Fault {
    Fault::Serialization(format!("invalid CBOR: {error}"))
}

fn node(decoder: &mut Decoder<'_>, nodes: &mut Nodes, depth: usize) -> Result<Node, Fault> {
    nodes.one_more()?;
    if depth > MAX_DEPTH {
        return Err(Fault::Serialization(format!("the CBOR value is nested deeper than {MAX_DEPTH} levels")));
    }
    let number = |number: Result<f64, minicbor::decode::Error>| number.map(Node::Number).map_err(malformed);
    match decoder.datatype().map_err(malformed)? {
        Type::Null | Type::Undefined => decoder.skip().map(|()| Node::Null).map_err(malformed),
        Type::Bool => decoder.bool().map(Node::Bool).map_err(malformed),
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => number(decoder.u64().map(|n| n as f64)),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Int => number(decoder.int().map(|n| i128::from(n) as f64)),
        Type::F16 | Type::F32 | Type::F64 => number(float(decoder)),
        Type::String | Type::StringIndef => text(decoder).map(Node::Text),
        Type::Tag => {
            decoder.tag().map_err(malformed)?;
            node(decoder, nodes, depth + 1)
        }
        Type::Array | Type::ArrayIndef => {
            let mut left = decoder.array().map_err(malformed)?;
            let mut items = Vec::new();
            while more(decoder, &mut left)? {
                items.push(node(decoder, nodes, depth + 1)?);
            }
            items.shrink_to_fit();
            Ok(Node::List(items))
        }
        Type::Map | Type::MapIndef => {
            let mut left = decoder.map().map_err(malformed)?;
            let mut members = Vec::new();
            while more(decoder, &mut left)? {
                let name = text(decoder)?;
                members.push((name, node(decoder, nodes, depth + 1)?));
            }
            members.shrink_to_fit();
            Ok(Node::Map(members))
        }
        other => Err(Fault::Serialization(format!("CBOR of type {other} has no meaning here"))),
    }
}

fn float(decoder: &mut Decoder<'_>) -> Result<f64, minicbor::decode::Error> {
    match decoder.datatype()? {
        Type::F16 => decoder.f16().map(f64::from),
        Type::F32 => decoder.f32().map(f64::from),
        _ => decoder.f64(),
    }
}

/// Whether a list or map goes on; one of indefinite length ends with a break, which is read.
fn more(decoder: &mut Decoder<'_>, left: &mut Option<u64>) -> Result<bool, Fault> {
    match left {
        Some(0) => Ok(false),
        Some(n) => {
            *n -= 1;
            Ok(true)
        }
        None if decoder.datatype().map_err(malformed)? == Type::Break => decoder.skip().map(|()| false).map_err(malformed),
        None => Ok(true),
    }
}

fn text(decoder: &mut Decoder<'_>) -> Result<String, Fault> {
    let parts = decoder.str_iter().map_err(malformed)?;
    parts.collect::<Result<Vec<_>, _>>().map(|parts| parts.concat()).map_err(malformed)
}
