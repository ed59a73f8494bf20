//! `lake ddl`: what an analyst pastes to read the Parquet files; `lake verify`: reads every one of them back.

mod verify;

use arrow::datatypes::{DataType, Field};
use clap::{Subcommand, ValueEnum};

use super::{Outcome, print};
use crate::model::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum LakeCommand {
    /// Print the statements that make the tables known to an engine.
    Ddl {
        /// The engine.
        #[arg(value_enum, default_value = "athena")]
        engine: Engine,
        /// Where the store is, as the engine sees it: `s3://bucket/prefix`.
        #[arg(long, default_value = "s3://BUCKET/PREFIX")]
        location: String,
        /// The schema (database) to put them in; it must exist.
        #[arg(long, default_value = "tracelake")]
        database: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read every block of the store back as a foreign reader does, and compare it with the catalog and its index: exit
    /// code 0, or 1 if a block is damaged or missing. Changes nothing, also beside a running server.
    Verify(verify::VerifyArgs),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Amazon Athena, with partition projection: nothing has to register partitions.
    Athena,
    /// Spark SQL.
    Spark,
    /// DuckDB views.
    Duckdb,
}

pub(crate) async fn run(command: LakeCommand) -> anyhow::Result<Outcome> {
    let (engine, location, database, json) = match command {
        LakeCommand::Verify(args) => return verify::run(args).await,
        LakeCommand::Ddl {
            engine,
            location,
            database,
            json,
        } => (engine, location, database, json),
    };
    let location = location.trim_end_matches('/');
    let statement = |table: Table| ddl(engine, table, location, &database);
    if json {
        let tables = Table::ALL.map(|table| serde_json::json!({ "table": table.name(), "statement": statement(table) }));
        let answer = serde_json::json!({ "location": location, "database": database, "tables": tables });
        print::line(&serde_json::to_string_pretty(&answer)?);
        return Ok(Outcome::Done);
    }
    if matches!(engine, Engine::Duckdb) {
        print::line("-- DuckDB refuses a view over a folder without files: leave out tables that have no rows yet\n");
    }
    for table in Table::ALL {
        print::line(&statement(table));
    }
    Ok(Outcome::Done)
}

fn ddl(engine: Engine, table: Table, location: &str, database: &str) -> String {
    let name = table.name();
    let columns = || {
        table
            .schema()
            .fields()
            .iter()
            .map(|field| format!("  `{}` {}", field.name(), hive_type(field.data_type())))
            .collect::<Vec<_>>()
            .join(",\n")
    };
    let partitions = if table.is_hourly() { "dt string, hour string" } else { "dt string" };
    match engine {
        Engine::Athena => {
            let (hour, template) = if table.is_hourly() {
                (
                    "  'projection.hour.type' = 'integer',\n  'projection.hour.range' = '0,23',\n  'projection.hour.digits' = '2',\n",
                    "dt=${dt}/hour=${hour}",
                )
            } else {
                ("", "dt=${dt}")
            };
            format!(
                "CREATE EXTERNAL TABLE IF NOT EXISTS `{database}`.`{name}` (\n{}\n)\nPARTITIONED BY ({partitions})\nSTORED AS PARQUET\nLOCATION '{location}/{name}/'\nTBLPROPERTIES (\n  \
                 'projection.enabled' = 'true',\n  'projection.dt.type' = 'date',\n  'projection.dt.format' = 'yyyy-MM-dd',\n  'projection.dt.range' = '2024-01-01,NOW+1DAYS',\n{hour}  \
                 'storage.location.template' = '{location}/{name}/{template}/'\n);\n",
                columns()
            )
        }
        Engine::Spark => {
            let partition_columns = if table.is_hourly() {
                ",\n  `dt` STRING,\n  `hour` STRING"
            } else {
                ",\n  `dt` STRING"
            };
            let partitions = if table.is_hourly() { "dt, hour" } else { "dt" };
            format!(
                "CREATE TABLE IF NOT EXISTS {database}.{name} (\n{}{partition_columns}\n) USING PARQUET PARTITIONED BY ({partitions}) LOCATION '{location}/{name}';\nMSCK REPAIR TABLE {database}.{name};\n",
                columns()
            )
        }
        Engine::Duckdb => format!("CREATE OR REPLACE VIEW {name} AS SELECT * FROM read_parquet('{location}/{name}/**/*.parquet', hive_partitioning = true);\n"),
    }
}

fn hive_type(data_type: &DataType) -> String {
    let fields = |fields: &[std::sync::Arc<Field>]| {
        fields
            .iter()
            .map(|field| format!("{}:{}", field.name(), hive_type(field.data_type())))
            .collect::<Vec<_>>()
            .join(",")
    };
    match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float64 => "double".into(),
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::List(item) => format!("array<{}>", hive_type(item.data_type())),
        DataType::Struct(children) => format!("struct<{}>", fields(children)),
        DataType::Map(entry, _) => match entry.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => format!("map<{},{}>", hive_type(pair[0].data_type()), hive_type(pair[1].data_type())),
            other => format!("map<string,{}>", hive_type(other)),
        },
        _ => "string".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn athena_gets_every_column_and_projected_partitions() {
        let text = ddl(Engine::Athena, Table::Logs, "s3://b/p", "lake");
        for part in [
            "`time_unix_nano` bigint",
            "`attributes` map<string,string>",
            "PARTITIONED BY (dt string, hour string)",
            "'s3://b/p/logs/dt=${dt}/hour=${hour}/'",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(
            ddl(Engine::Athena, Table::Spans, "s3://b", "l")
                .contains("`events` array<struct<time:timestamp,time_unix_nano:bigint,name:string,attributes:map<string,string>>>")
        );
        assert!(!ddl(Engine::Athena, Table::MetricPoints, "s3://b", "l").contains("hour"));
    }
}
