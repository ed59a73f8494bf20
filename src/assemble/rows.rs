//! Summaries and calls as rows of `traces` and `service_edges`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, ListBuilder, MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::calls::{CallKey, Calls, Figures};
use super::compare::Correction;
use super::summary::Summary;
use crate::catalog::NodeId;
use crate::model::schema::memory_schema;
use crate::model::{Rows, Table};
use crate::query::xray::facts::Service;

/// Rows of `traces`.
pub(super) fn traces(corrections: &[Correction]) -> Result<Rows, ArrowError> {
    let all = || corrections.iter().map(|row| &row.summary);
    let text = |of: fn(&Summary) -> Option<&str>| -> ArrayRef { Arc::new(all().map(of).collect::<StringArray>()) };
    let flag = |of: fn(&Summary) -> bool| -> ArrayRef { Arc::new(all().map(|summary| Some(of(summary))).collect::<BooleanArray>()) };
    let long = |of: fn(&Summary) -> Option<i64>| -> ArrayRef { Arc::new(all().map(of).collect::<Int64Array>()) };
    let int = |of: fn(&Summary) -> Option<i32>| -> ArrayRef { Arc::new(all().map(of).collect::<Int32Array>()) };
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let schema = memory_schema(Table::Traces);
    let type_of = |name: &str| schema.field_with_name(name).map(|field| field.data_type().clone());
    let calls: StringArray = corrections.iter().map(|row| Some(row.calls.to_json())).collect();
    let nodes: StringArray = corrections.iter().map(|row| row.node.as_ref().map(NodeId::as_str)).collect();
    let columns: Vec<ArrayRef> = vec![
        micros(all().map(|summary| summary.start_unix_nano)),
        long(|summary| Some(summary.start_unix_nano)),
        long(|summary| Some(summary.duration_nano)),
        long(|summary| summary.response_time_nano),
        Arc::new(StringArray::from_iter_values(all().map(|summary| summary.trace_id.to_string()))),
        Arc::new(Int32Array::from_iter_values(corrections.iter().map(|row| row.revision))),
        text(|summary| summary.root_service.as_deref()),
        text(|summary| summary.root_name.as_deref()),
        texts(all().map(|summary| &summary.services), &type_of("services")?)?,
        flag(|summary| summary.flags.error),
        flag(|summary| summary.flags.fault),
        flag(|summary| summary.flags.throttle),
        flag(|summary| summary.is_partial),
        text(|summary| summary.http_method.as_deref()),
        text(|summary| summary.http_url.as_deref()),
        int(|summary| summary.http_status_code),
        text(|summary| summary.user_agent.as_deref()),
        text(|summary| summary.client_ip.as_deref()),
        texts(all().map(|summary| &summary.users), &type_of("users")?)?,
        annotations(corrections, &type_of("annotations")?)?,
        Arc::new(Int32Array::from_iter_values(all().map(|summary| count(summary.span_count)))),
        Arc::new(Int32Array::from_iter_values(all().map(|summary| count(summary.error_count)))),
        Arc::new(Int32Array::from_iter_values(all().map(|summary| count(summary.missing_parents)))),
        long(|summary| Some(summary.logged.records.cast_signed())),
        int(|summary| Some(summary.logged.worst_severity)),
        Arc::new(calls),
        long(|summary| Some(summary.digest())),
        Arc::new(Int64Array::from(vec![0; corrections.len()])),
        Arc::new(nodes),
    ];
    Rows::try_new(Table::Traces, RecordBatch::try_new(schema, columns)?, Arc::from([]))
}

/// Rows of `service_edges`.
pub(super) fn service_edges(calls: &Calls) -> Result<Rows, ArrowError> {
    let rows: Vec<(&CallKey, [i64; Figures::N])> = calls.rows().map(|(key, figures)| (key, figures.to_array())).collect();
    let minutes = || rows.iter().map(|(key, _)| key.minute_nanos);
    let of_client = |of: fn(&Service) -> &str| -> ArrayRef {
        let value = |(key, _): &(&CallKey, _)| key.client.as_ref().map(|client| of(client).to_string());
        Arc::new(rows.iter().map(value).collect::<StringArray>())
    };
    let text = |of: fn(&CallKey) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|(key, _)| of(key)))) };
    let class = |of: fn(&CallKey) -> Option<i32>| -> ArrayRef { Arc::new(rows.iter().map(|(key, _)| of(key)).collect::<Int32Array>()) };
    let mut columns: Vec<ArrayRef> = vec![
        micros(minutes()),
        Arc::new(Int64Array::from_iter_values(minutes())),
        of_client(|service| &service.name),
        of_client(|service| &service.kind),
        of_client(|service| &service.account_id),
        text(|key| &key.server.name),
        text(|key| &key.server.kind),
        text(|key| &key.server.account_id),
        text(|key| &key.operation),
        class(|key| key.caller_class),
        class(|key| key.callee_class),
    ];
    columns.extend((0..Figures::N).map(|i| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, figures)| figures[i]))) }));
    columns.push(Arc::new(Int64Array::from(vec![0; rows.len()])));
    Rows::try_new(
        Table::ServiceEdges,
        RecordBatch::try_new(memory_schema(Table::ServiceEdges), columns)?,
        Arc::from([]),
    )
}

fn micros(nanos: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(nanos.map(|nanos| nanos.div_euclid(1_000))).with_timezone("UTC"))
}

fn texts<'a>(lists: impl Iterator<Item = &'a Vec<String>>, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let DataType::List(element) = data_type else {
        return Err(ArrowError::SchemaError("a list of texts is none".into()));
    };
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(element.clone());
    for list in lists {
        list.iter().for_each(|text| builder.values().append_value(text));
        builder.append(true);
    }
    Ok(Arc::new(builder.finish()))
}

fn annotations(corrections: &[Correction], data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let DataType::Map(entries, _) = data_type else {
        return Err(ArrowError::SchemaError("annotations are no map".into()));
    };
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(ArrowError::SchemaError("annotations are no map".into()));
    };
    let names = MapFieldNames {
        entry: entries.name().clone(),
        key: fields[0].name().clone(),
        value: fields[1].name().clone(),
    };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_keys_field(fields[0].clone())
        .with_values_field(fields[1].clone());
    for row in corrections {
        for (key, value) in &row.summary.annotations {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true)?;
    }
    // the builder has a field of its own for the entries
    let built = arrow::array::Array::to_data(&builder.finish())
        .into_builder()
        .data_type(data_type.clone())
        .build()?;
    Ok(arrow::array::make_array(built))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assemble, span};
    use super::*;
    use crate::query::Logged;
    use crate::query::xray::{Expression, TraceFacts};

    #[test]
    fn rows_have_the_schema_of_their_tables() {
        let mut root = span(1, None, "web", "SERVER", 5, 7);
        root.attributes = [
            ("aws.xray.annotations", "[\"tenant\",\"order-id\"]"),
            ("tenant", "a"),
            ("order-id", "7"),
            ("enduser.id", "anna"),
            ("http.response.status_code", "503"),
        ]
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .to_vec();
        let trace = assemble(vec![root, span(2, Some(1), "web", "CLIENT", 6, 1)]);
        let logged = Logged {
            records: 3,
            worst_severity: 17,
        };
        let summary = Summary::of(&TraceFacts::of(&trace), logged);
        assert_eq!(
            (summary.users.as_slice(), summary.annotations["tenant"].as_str()),
            (&["anna".to_string()][..], "a")
        );
        // by the keys that filter expressions know
        let keys: Vec<&str> = summary.annotations.keys().map(String::as_str).collect();
        assert_eq!(keys, ["order-id", "order_id", "tenant"]);
        for key in &keys {
            let filter = Expression::parse(&format!("annotation[{key}] = \"{}\"", summary.annotations[*key])).expect("an expression");
            assert!(filter.holds(&TraceFacts::of(&trace)), "{key}");
        }
        assert_eq!((summary.flags.fault, summary.http_status_code, summary.span_count), (true, Some(503), 2));
        assert_eq!((summary.response_time_nano, summary.is_partial), (Some(7), false));
        let row = |node: Option<NodeId>| Correction {
            summary: summary.clone(),
            revision: 1,
            node,
            calls: summary.calls.clone(),
        };
        let rows = traces(&[row(None), row(NodeId::parse(&"a".repeat(26)))]).expect("rows");
        assert_eq!((rows.table(), rows.len(), rows.time_bounds()), (Table::Traces, 2, Some((5, 5))));
        // a log of before nodes were named has rows without that column
        let stored = rows.to_batch(None).expect("a batch");
        let before: Vec<usize> = (0..stored.num_columns() - 1).collect();
        let read = crate::model::from_stored(Table::Traces, &stored.project(&before).expect("columns")).expect("rows");
        let nodes = read.batch().column_by_name("node").expect("a column");
        assert_eq!((read.len(), arrow::array::Array::null_count(nodes)), (2, 2));
        let edges = service_edges(&summary.calls).expect("rows");
        assert_eq!((edges.table(), edges.len()), (Table::ServiceEdges, 2));
        let mut later = summary.clone();
        later.logged.records = 4;
        assert!(later.digest() != summary.digest() && summary.digest() == summary.clone().digest());
    }
}
