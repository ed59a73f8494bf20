//! Lookup tables, and the commands that take fields of them: `lookup` by equal texts, `cidrlookup` by networks.
//!
//! `lookup users id as user.id OUTPUT name, team as t` finds the first row of the table `users` whose `id` is the event's `user.id`, and
//! gives the event its `name` and, as `t`, its `team`; they hide what the event has under these names. With several fields all must be
//! equal, case included. `cidrlookup nets network as client OUTPUT zone` finds the narrowest network that an address is in; `OUTPUTNEW`
//! leaves a field that the event has as it is. An event without a row in the table stays as it is.
//!
//! A table is CSV: a line of names, then rows; cells may stand in quotes. Which tables there are, who runs a script knows: it hands them
//! over by name ([`Script::with_tables`](super::Script::with_tables)).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::operators::{Next, Operator};
use super::row::Row;
use super::syntax::FieldName;
use super::value::Value;
use super::{Failed, Flow, Malformed};

/// Columns of a table.
const MAX_COLUMNS: usize = 256;

/// A table, as its text says.
#[derive(Debug)]
pub struct LookupTable {
    columns: Vec<String>,
    rows: Vec<Vec<Arc<str>>>,
}

impl LookupTable {
    /// Reads CSV; the error says what is wrong with it.
    pub fn read(csv: &str) -> Result<LookupTable, String> {
        let mut lines = records(csv.strip_prefix('\u{feff}').unwrap_or(csv));
        if lines.is_empty() {
            return Err("it is empty: its first line names its columns".into());
        }
        let columns: Vec<String> = lines.remove(0).into_iter().map(|name| name.trim().to_string()).collect();
        if columns.len() > MAX_COLUMNS {
            return Err(format!("it has more than {MAX_COLUMNS} columns"));
        }
        if let Some(name) = columns.iter().enumerate().find(|(at, name)| columns[..*at].contains(name) || name.is_empty()) {
            return Err(format!("a column's name is missing, or stands twice: {:?}", name.1));
        }
        let mut rows = Vec::with_capacity(lines.len());
        for (number, line) in lines.into_iter().enumerate() {
            if line.len() != columns.len() {
                return Err(format!("row {} has {} cells, and there are {} columns", number + 1, line.len(), columns.len()));
            }
            rows.push(line.into_iter().map(Arc::from).collect());
        }
        Ok(LookupTable { columns, rows })
    }

    fn place(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|name| name == column)
    }
}

/// The records of a CSV text; lines without anything are none.
fn records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut in_quotes, mut was_quoted) = (false, false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if in_quotes && characters.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' if in_quotes => in_quotes = false,
            '"' if cell.is_empty() => (in_quotes, was_quoted) = (true, true),
            ',' if !in_quotes => {
                record.push(std::mem::take(&mut cell));
                was_quoted = false;
            }
            '\r' if !in_quotes && characters.peek() == Some(&'\n') => {}
            '\n' if !in_quotes => {
                if !record.is_empty() || !cell.is_empty() || was_quoted {
                    record.push(std::mem::take(&mut cell));
                    records.push(std::mem::take(&mut record));
                }
                was_quoted = false;
            }
            c => cell.push(c),
        }
    }
    if !record.is_empty() || !cell.is_empty() || was_quoted {
        record.push(cell);
        records.push(record);
    }
    records
}

/// A command, as it is written.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    pub(super) table: Arc<str>,
    /// By networks.
    pub(super) is_by_network: bool,
    /// What is compared: by `lookup`, a column and a field; by `cidrlookup` either may stand first.
    pub(super) keys: Vec<(Arc<str>, FieldName)>,
    /// Columns, and the fields that they become.
    pub(super) outputs: Vec<(Arc<str>, Arc<str>)>,
    /// Only fields that are not there.
    pub(super) is_new_only: bool,
    /// Where it stands.
    pub(super) start: usize,
    pub(super) end: usize,
    /// Its table, once that is known.
    ready: Option<Arc<Ready>>,
}

/// A command with its table.
#[derive(Debug)]
struct Ready {
    table: Arc<LookupTable>,
    fields: Vec<FieldName>,
    outputs: Vec<(usize, Arc<str>)>,
    find: Find,
}

#[derive(Debug)]
enum Find {
    Equal(HashMap<Vec<Arc<str>>, usize>),
    Network {
        /// Lengths of prefixes, the longest first, of either family.
        lengths: Vec<(bool, u8)>,
        rows: HashMap<(bool, u8, u128), usize>,
    },
}

impl Lookup {
    pub(super) fn new(table: Arc<str>, is_by_network: bool, start: usize, end: usize) -> Self {
        Self {
            table,
            is_by_network,
            keys: Vec::new(),
            outputs: Vec::new(),
            is_new_only: false,
            start,
            end,
            ready: None,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self.is_by_network {
            true => "cidrlookup",
            false => "lookup",
        }
    }

    /// The command over its table.
    pub(super) fn over(&self, table: Arc<LookupTable>) -> Result<Lookup, Malformed> {
        let malformed = |message: String| Malformed {
            message,
            start: self.start,
            end: self.end,
        };
        let missing = |column: &str| malformed(format!("the lookup table `{}` has no column `{column}`", self.table));
        let mut columns = Vec::new();
        let mut fields = Vec::new();
        for (first, second) in &self.keys {
            let (column, field) = match (self.is_by_network, table.place(first), table.place(&second.name)) {
                (_, Some(column), _) if **first == *second.name => (column, second.clone()),
                // AWS' page has the event's field first
                (true, Some(_), Some(_)) => {
                    return Err(malformed(format!(
                        "`{first}` and `{}` are both columns of `{}`: which is the event's field is not clear",
                        second.name, self.table
                    )));
                }
                (true, None, Some(column)) => (column, FieldName::new(first.split('.'))),
                (_, Some(column), _) => (column, second.clone()),
                (_, None, _) => return Err(missing(first)),
            };
            columns.push(column);
            fields.push(field);
        }
        let output = |(column, name): &(Arc<str>, Arc<str>)| Ok((table.place(column).ok_or_else(|| missing(column))?, name.clone()));
        let outputs = self.outputs.iter().map(output).collect::<Result<Vec<_>, Malformed>>()?;
        let find = match self.is_by_network {
            false => {
                let mut rows = HashMap::with_capacity(table.rows.len());
                for (number, row) in table.rows.iter().enumerate() {
                    let key: Vec<Arc<str>> = columns.iter().map(|column| row[*column].clone()).collect();
                    rows.entry(key).or_insert(number);
                }
                Find::Equal(rows)
            }
            true => networks(&table, columns[0]).map_err(malformed)?,
        };
        Ok(Lookup {
            ready: Some(Arc::new(Ready { table, fields, outputs, find })),
            ..self.clone()
        })
    }

    /// Whether its table is known.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.is_some()
    }
}

/// An address as a number, and whether it is one of IPv4.
fn number(ip: IpAddr) -> (bool, u128) {
    match ip {
        IpAddr::V4(ip) => (true, u128::from(u32::from(ip))),
        IpAddr::V6(ip) => (false, u128::from(ip)),
    }
}

/// The first bits of an address.
fn masked((is_v4, number): (bool, u128), bits: u8) -> u128 {
    let all = if is_v4 { 32 } else { 128 };
    let behind = all - u32::from(bits).min(all);
    number.checked_shr(behind).unwrap_or(0)
}

fn networks(table: &LookupTable, column: usize) -> Result<Find, String> {
    let (mut lengths, mut rows) = (Vec::new(), HashMap::new());
    for (number_of_row, row) in table.rows.iter().enumerate() {
        let text = row[column].trim();
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let wrong = || format!("row {} of the lookup table has no network: {text:?}", number_of_row + 1);
        let address = number(address.parse::<IpAddr>().map_err(|_| wrong())?);
        let all = if address.0 { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse::<u8>().ok().filter(|bits| *bits <= all).ok_or_else(wrong)?,
            None => all,
        };
        if !lengths.contains(&(address.0, bits)) {
            lengths.push((address.0, bits));
        }
        rows.entry((address.0, bits, masked(address, bits))).or_insert(number_of_row);
    }
    lengths.sort_unstable_by_key(|(_, bits)| std::cmp::Reverse(*bits));
    Ok(Find::Network { lengths, rows })
}

impl Ready {
    fn row(&self, row: &Row) -> Option<&[Arc<str>]> {
        let text = |field: &FieldName| row.get(field).as_text().map(|text| Arc::<str>::from(&*text));
        let number = match &self.find {
            Find::Equal(rows) => {
                let key: Option<Vec<Arc<str>>> = self.fields.iter().map(text).collect();
                *rows.get(&key?)?
            }
            Find::Network { lengths, rows } => {
                let address = number(text(self.fields.first()?)?.trim().parse().ok()?);
                let of_family = lengths.iter().filter(|(is_v4, _)| *is_v4 == address.0);
                let found = of_family.filter_map(|(is_v4, bits)| rows.get(&(*is_v4, *bits, masked(address, *bits))));
                *found.into_iter().next()?
            }
        };
        self.table.rows.get(number).map(Vec::as_slice)
    }
}

/// The step.
#[derive(Clone, Debug)]
pub(super) struct Found(pub(super) Lookup);

impl Operator for Found {
    fn push(&mut self, mut row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        let Some(ready) = &self.0.ready else { return next.push(row) };
        if let Some(found) = ready.row(&row) {
            for (column, name) in &ready.outputs {
                if self.0.is_new_only && !row.get(&FieldName::plain(name)).is_null() {
                    continue;
                }
                row.set(name, Value::Text(found[*column].clone()));
            }
        }
        next.push(row)
    }
    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
    fn is_rowwise(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_csv() {
        let table = LookupTable::read("\u{feff}id, name\r\n1,\"a, \"\"b\"\"\nc\"\n\n2,\n").expect("a table");
        assert_eq!(table.columns, ["id", "name"]);
        let rows: Vec<Vec<&str>> = table.rows.iter().map(|row| row.iter().map(|cell| &**cell).collect()).collect();
        assert_eq!(rows, [vec!["1", "a, \"b\"\nc"], vec!["2", ""]]);
        for (text, part) in [("", "empty"), ("a,a\n1,2", "twice"), ("a,\n1,2", "missing"), ("a,b\n1", "1 cells")] {
            let error = LookupTable::read(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_first_bits_are_those() {
        let of = |text: &str, bits: u8| masked(number(text.parse().expect("an address")), bits);
        assert_eq!(of("10.1.2.3", 8), 10);
        assert_eq!((of("10.1.2.3", 0), of("::1", 0)), (0, 0));
        assert_eq!((of("10.1.2.3", 32), of("::1", 128)), (0x0a01_0203, 1));
    }
}
