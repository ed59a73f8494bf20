//! Reads scripts: commands, and the rules of what may follow what.

mod series;
mod source;

use std::sync::Arc;

use memchr::memmem::Finder;

use self::series::{flag, option};
use super::lexer::{Kind, Token, malformed};
use super::lookup::Lookup;
use super::parser::{Parser, Result};
use super::syntax::{Command, Earlier, Expression, Extraction, FieldName, SortKey, Stats};
use super::{MAX_LIMIT, Source};

/// Commands of one script.
const MAX_COMMANDS: usize = 200;
/// `stats` of one script.
const MAX_STATS: usize = 10;
/// Rows that `appendcols` takes without `max`.
const DEFAULT_APPENDED: usize = 10_000;

/// Commands that are part of the language and not served, and why.
const REFUSED: [(&str, &str); 5] = [
    ("anomaly", "finding anomalies by machine learning is not served"),
    ("logcompare", "it is not served; `pattern .. | diff` compares with an earlier time"),
    ("relevantfields", "scoring of fields is not served"),
    ("estimate", "estimates are not served; the query's statistics say what was scanned"),
    ("opensearch", "only Logs Insights QL is read here"),
];

/// What was seen so far, for the rules of order.
#[derive(Default)]
struct Seen {
    n_stats: usize,
    /// `sort` or `limit` behind a `stats`.
    ends_stats: Option<&'static str>,
    dedup: bool,
    join: bool,
    fields_are_gone: bool,
}

/// Sources and commands up to the end, or a parenthesis.
pub(super) fn script(parser: &mut Parser) -> Result<(Vec<Source>, Vec<Command>)> {
    let (mut sources, mut commands, mut seen) = (Vec::new(), Vec::new(), Seen::default());
    // a pipe may stand before the first command
    parser.eat_sign("|")?;
    let is_end = |token: &Token| matches!(token.kind, Kind::End | Kind::Sign(")"));
    if is_end(parser.lexer.peek()?) {
        return Ok((sources, commands));
    }
    loop {
        let token = parser.lexer.next()?;
        let Kind::Word(word) = &token.kind else {
            return parser.unexpected(&token, "a command");
        };
        let word = word.to_ascii_lowercase();
        if word == "source" {
            if !commands.is_empty() || !sources.is_empty() {
                return malformed("`SOURCE` stands first in a query", token.start, token.end);
            }
            sources = source::source(parser)?;
        } else if word == "diff" {
            let earlier = earlier(parser)?;
            match commands.last_mut() {
                Some(Command::Pattern { compared, .. }) if compared.is_none() => *compared = Some(earlier),
                // what it would show there, the service's pages do not say
                Some(Command::Stats(_)) => {
                    let message = "`diff` behind `stats` is not supported: it compares patterns, and stands right behind `pattern`";
                    return malformed(message, token.start, token.end);
                }
                _ => return malformed("`diff` compares patterns: it stands right behind `pattern`", token.start, token.end),
            }
        } else {
            let command = command(parser, &word, &token, &commands)?;
            check_searches(parser, &command, &commands)?;
            check_order(&command, &mut seen, &token)?;
            commands.push(command);
        }
        if commands.len() > MAX_COMMANDS {
            return malformed(format!("the query has more than {MAX_COMMANDS} commands"), token.start, token.end);
        }
        if is_end(parser.lexer.peek()?) {
            return Ok((sources, commands));
        }
        let pipe = parser.lexer.next()?;
        if !pipe.is_sign("|") {
            return parser.unexpected(&pipe, &format!("`|` or the end behind `{word}`"));
        }
    }
}

/// What `diff` compares with.
fn earlier(parser: &mut Parser) -> Result<Earlier> {
    let token = parser.lexer.peek()?.clone();
    let Kind::Word(word) = &token.kind else { return Ok(Earlier::Period) };
    let earlier = match word.to_ascii_lowercase().as_str() {
        "previousday" => Earlier::Day,
        "previousweek" => Earlier::Week,
        "previousmonth" => Earlier::Month,
        _ => return parser.unexpected(&token, "`previousDay`, `previousWeek`, `previousMonth` or nothing behind `diff`"),
    };
    parser.lexer.next()?;
    Ok(earlier)
}

/// Whether each `search('…')` of a command stands where every event that comes there was asked it, before anything else was done.
fn check_searches(parser: &mut Parser, command: &Command, before: &[Command]) -> Result<()> {
    let Some((start, end)) = parser.searches.last().copied() else { return Ok(()) };
    let asked = match command {
        Command::Filter(condition) if before.iter().all(is_asked_before) => super::prefilter::searches_of(condition),
        _ => 0,
    };
    match asked == std::mem::take(&mut parser.searches).len() {
        true => Ok(()),
        false => malformed(
            "search('..') stands by itself in `filter`, or under `and`, before the rows are gathered: write OR and NOT into its query",
            start,
            end,
        ),
    }
}

fn is_asked_before(command: &Command) -> bool {
    super::operators::is_leading(command) || matches!(command, Command::Sort(_))
}

fn check_order(command: &Command, seen: &mut Seen, token: &Token) -> Result<()> {
    let refuse = |message: String| malformed(message, token.start, token.end);
    if seen.dedup && !matches!(command, Command::Limit(_)) {
        return refuse(format!("only `limit` may follow `dedup`, not `{}`", command.name()));
    }
    match command {
        Command::Stats(_) => {
            seen.n_stats += 1;
            if seen.n_stats > MAX_STATS {
                return refuse(format!("a query has at most {MAX_STATS} `stats`"));
            }
            if let Some(name) = seen.ends_stats {
                return refuse(format!("`{name}` stands only behind the last `stats`"));
            }
            seen.fields_are_gone = true;
        }
        Command::Sort(_) | Command::Limit(_) if seen.n_stats > 0 => seen.ends_stats = Some(command.name()),
        Command::Dedup(_) => seen.dedup = true,
        Command::Join { .. } if seen.join => return refuse("a query has at most one `join`".into()),
        Command::Join { .. } => seen.join = true,
        Command::Pattern { .. } if seen.fields_are_gone => return refuse("`pattern` works on log events, and `stats` left none".into()),
        _ => {}
    }
    Ok(())
}

fn command(parser: &mut Parser, word: &str, token: &Token, before: &[Command]) -> Result<Command> {
    if let Some((name, why)) = REFUSED.iter().find(|(name, _)| *name == word) {
        return malformed(format!("the command `{name}` is not supported: {why}"), token.start, token.end);
    }
    Ok(match word {
        "fields" => Command::Fields(parser.items()?),
        "display" => Command::Display(parser.items()?),
        "filter" | "where" => Command::Filter(parser.expression()?),
        "filterindex" => Command::Filter(index_filter(parser)?),
        "stats" => Command::Stats(Box::new(stats(parser)?)),
        "sort" | "order" => sort(parser)?,
        "limit" | "head" => limit(parser)?,
        "parse" => parse(parser)?,
        "json" => json(parser)?,
        "lookup" | "cidrlookup" => lookup(parser, word == "cidrlookup")?,
        "dedup" => Command::Dedup(parser.fields()?),
        "unnest" => {
            let field = parser.field()?;
            parser.expect_word("into")?;
            Command::Unnest {
                field,
                name: parser.alias()?,
                reads_json: false,
            }
        }
        "expand" => {
            let field = parser.field()?;
            Command::Unnest {
                name: parser.optional_alias()?.unwrap_or_else(|| field.name.clone()),
                field,
                reads_json: true,
            }
        }
        "pattern" => Command::Pattern {
            of: parser.expression()?,
            compared: None,
        },
        "unmask" => unmask(parser)?,
        "join" => join(parser, token)?,
        "appendcols" => append_columns(parser)?,
        "addtotals" => series::totals(parser)?,
        "accum" => {
            let field = parser.field()?;
            Command::Accumulate {
                name: parser.optional_alias()?.unwrap_or_else(|| field.name.clone()),
                field,
            }
        }
        "autoregress" => series::lag(parser)?,
        "filldown" => Command::FillDown(match parser.lexer.peek()?.kind {
            Kind::Word(_) | Kind::Ticked(_) => parser.fields()?,
            _ => Vec::new(),
        }),
        "fillmissing" => series::fill_missing(parser, token, before)?,
        "outlier" => series::outlier(parser)?,
        "sessionize" => series::sessionize(parser)?,
        "countfrequent" | "count_frequent" => Command::CountFrequent(parser.fields()?),
        _ => return malformed(format!("there is no command '{word}'"), token.start, token.end),
    })
}

/// `field = value` or `field in [..]`.
fn index_filter(parser: &mut Parser) -> Result<Expression> {
    let start = parser.lexer.place()?;
    let expression = parser.expression()?;
    fn is_served(expression: &Expression) -> bool {
        match expression {
            Expression::Compare(super::syntax::Comparison::Equal, sides) => matches!(**sides, (Expression::Field(_), Expression::Literal(_))),
            Expression::In { value, list, negated: false } => {
                matches!(**value, Expression::Field(_)) && list.iter().all(|item| matches!(item, Expression::Literal(_)))
            }
            Expression::And(parts) => parts.iter().all(is_served),
            _ => false,
        }
    }
    match is_served(&expression) {
        true => Ok(expression),
        false => malformed("`filterIndex` takes `field = value` or `field in [..]`", start, parser.lexer.end_before()),
    }
}

fn stats(parser: &mut Parser) -> Result<Stats> {
    let start = parser.lexer.place()?;
    parser.aggregates = Some(Vec::new());
    let items = parser.items();
    let aggregates = parser.aggregates.take().unwrap_or_default();
    let items = items?;
    let (mut by, mut offset) = (Vec::new(), None);
    if parser.eat_word("by")? {
        by = parser.items()?;
        if parser.eat_word("offset")? {
            offset = Some(parser.period()?);
        }
    }
    let end = parser.lexer.end_before();
    let bin = by.iter().enumerate().find_map(|(place, item)| match &item.expression {
        Expression::Call {
            function,
            arguments,
            period: Some(period),
            ..
        } if function.name == "datefloor" && matches!(&arguments[..], [Expression::Field(field)] if *field.name == *"@timestamp") => Some((place, *period)),
        _ => None,
    });
    if offset.is_some() && bin.is_none() {
        return malformed("`offset` moves bins, and the groups have none", start, end);
    }
    // an item may use what stands before it, and nothing of single events
    let mut known: Vec<Arc<str>> = by.iter().map(|item| item.name.clone()).collect();
    for item in &items {
        if let Some(unknown) = unknown_field(&item.expression, &known) {
            return malformed(format!("'{unknown}' stands outside of an aggregate, and is no group"), start, end);
        }
        known.push(item.name.clone());
    }
    parser.columns = known;
    Ok(Stats {
        aggregates,
        items,
        by,
        bin,
        offset,
    })
}

fn unknown_field(expression: &Expression, known: &[Arc<str>]) -> Option<Arc<str>> {
    let unknown = |part: &Expression| unknown_field(part, known);
    match expression {
        Expression::Field(field) => (!known.contains(&field.name)).then(|| field.name.clone()),
        Expression::Literal(_) | Expression::Aggregate(_) | Expression::Found(_) => None,
        Expression::Negative(inner) | Expression::Not(inner) => unknown(inner),
        Expression::Arithmetic(_, sides) | Expression::Compare(_, sides) => unknown(&sides.0).or_else(|| unknown(&sides.1)),
        Expression::And(parts) | Expression::Or(parts) => parts.iter().find_map(unknown),
        Expression::In { value, list, .. } => unknown(value).or_else(|| list.iter().find_map(unknown)),
        Expression::InAnswer { value, .. } | Expression::Like { value, .. } => unknown(value),
        Expression::Call { arguments, .. } => arguments.iter().find_map(unknown),
    }
}

fn sort(parser: &mut Parser) -> Result<Command> {
    parser.eat_word("by")?;
    let mut keys = Vec::new();
    loop {
        let expression = parser.expression()?;
        let descending = match parser.eat_word("desc")? {
            true => true,
            false => {
                parser.eat_word("asc")?;
                false
            }
        };
        keys.push(SortKey { expression, descending });
        if !parser.eat_sign(",")? {
            return Ok(Command::Sort(keys));
        }
    }
}

fn limit(parser: &mut Parser) -> Result<Command> {
    // any rows will do: the first are
    parser.eat_word("any")?;
    Ok(Command::Limit(parser.count(MAX_LIMIT)?))
}

fn parse(parser: &mut Parser) -> Result<Command> {
    let mut multi = parser.eat_word("multi")?;
    let message = || FieldName::new(["@message"]);
    let first = parser.lexer.peek()?.clone();
    let mut field = message();
    // `parse logfmt as lf`: no field of that name, since `as` cannot stand behind a field
    let names_form = (first.is_word("logfmt") || first.is_word("csv")) && {
        let mut ahead = parser.lexer.clone();
        ahead.next()?;
        ahead.peek()?.is_word("as")
    };
    let starts_extraction = matches!(first.kind, Kind::Quoted(_)) || first.is_sign("/") || names_form;
    if !starts_extraction {
        field = parser.field()?;
    }
    multi |= parser.eat_word("multi")?;
    let start = parser.lexer.place()?;
    if let Some(regex) = parser.regex()? {
        let end = parser.lexer.end_before();
        multi |= parser.eat_word("multi")?;
        let named: Vec<(usize, Arc<str>)> = regex
            .capture_names()
            .enumerate()
            .filter_map(|(group, name)| name.map(|name| (group, name.into())))
            .collect();
        let groups = match parser.eat_word("as")? {
            true => {
                let names = aliases(parser)?;
                let n_groups = regex.captures_len() - 1;
                if names.len() != n_groups {
                    let message = format!("the regular expression has {n_groups} groups, and these are {} names", names.len());
                    return malformed(message, start, parser.lexer.end_before());
                }
                names.into_iter().enumerate().map(|(i, name)| (i + 1, name)).collect()
            }
            false => named,
        };
        if groups.is_empty() {
            return malformed("the regular expression names no group: write `(?<name>..)`", start, end);
        }
        return Ok(Command::Parse {
            field,
            extraction: Extraction::Regex { regex, groups, multi },
        });
    }
    let token = parser.lexer.next()?;
    if let Kind::Quoted(glob) = &token.kind {
        let glob = glob.clone();
        multi |= parser.eat_word("multi")?;
        parser.expect_word("as")?;
        let names = aliases(parser)?;
        let stars = glob.matches('*').count();
        if stars != names.len() {
            let message = format!("the pattern has {stars} `*`, and these are {} names", names.len());
            return malformed(message, token.start, parser.lexer.end_before());
        }
        if !multi {
            let extraction = Extraction::Glob {
                pieces: glob.split('*').map(|piece| Finder::new(piece).into_owned()).collect(),
                stars: names.into_iter().map(Some).collect(),
            };
            return Ok(Command::Parse { field, extraction });
        }
        let regex = parser.compile(&glob_regex(&glob), token.start, token.end)?;
        return Ok(Command::Parse {
            field,
            extraction: Extraction::Regex {
                regex,
                groups: names.into_iter().enumerate().map(|(i, name)| (i + 1, name)).collect(),
                multi,
            },
        });
    }
    if token.is_word("logfmt") {
        parser.expect_word("as")?;
        let extraction = Extraction::Logfmt(parser.alias()?);
        return Ok(Command::Parse { field, extraction });
    }
    if token.is_word("csv") {
        parser.expect_word("as")?;
        let extraction = Extraction::Csv(aliases(parser)?);
        return Ok(Command::Parse { field, extraction });
    }
    parser.unexpected(&token, "a pattern in quotes, a regular expression between slashes, `logfmt` or `csv`")
}

fn aliases(parser: &mut Parser) -> Result<Vec<Arc<str>>> {
    let mut names = vec![parser.alias()?];
    while parser.eat_sign(",")? {
        names.push(parser.alias()?);
    }
    Ok(names)
}

/// A pattern in which each `*` is as little as possible, and at its end all the rest.
pub(super) fn glob_regex(glob: &str) -> String {
    let mut out = String::from("(?s)");
    let pieces: Vec<&str> = glob.split('*').collect();
    for (i, piece) in pieces.iter().enumerate() {
        if i > 0 {
            let is_last = i + 1 == pieces.len() && piece.is_empty();
            out.push_str(if is_last { "(.*)$" } else { "(.*?)" });
        } else if piece.is_empty() && pieces.len() > 1 {
            out.push('^');
        }
        out.push_str(&regex::escape(piece));
    }
    out
}

/// `json [field=f] "a.b" as x, "c" as y`.
fn json(parser: &mut Parser) -> Result<Command> {
    let mut field = FieldName::new(["@message"]);
    if parser.lexer.peek()?.is_word("field") {
        parser.lexer.next()?;
        parser.expect_sign("=")?;
        field = parser.field()?;
    }
    let mut paths = Vec::new();
    loop {
        let token = parser.lexer.next()?;
        let Kind::Quoted(path) = &token.kind else {
            return parser.unexpected(&token, "a path in quotes");
        };
        // items of lists may be written `[0]`
        let plain = path.replace('[', ".").replace(']', "");
        let name = parser.optional_alias()?.unwrap_or_else(|| path.as_str().into());
        paths.push((FieldName::plain(plain.trim_start_matches("$.")), name));
        if !parser.eat_sign(",")? {
            return Ok(Command::Json { field, paths });
        }
    }
}

/// `TABLE column [as field], .. OUTPUT column [as name], ..`
fn lookup(parser: &mut Parser, is_by_network: bool) -> Result<Command> {
    let token = parser.lexer.next()?;
    let (start, end) = (token.start, token.end);
    let (Kind::Word(table) | Kind::Ticked(table)) = token.kind else {
        return parser.unexpected(&token, "a lookup table's name");
    };
    let mut lookup = Lookup::new(table.into(), is_by_network, start, end);
    loop {
        let column = parser.alias()?;
        // either may be the event's field, as `cidrlookup` has it
        let itself = parser.named(FieldName::new(column.split('.')));
        let field = match parser.eat_word("as")? {
            true => parser.field()?,
            false => itself,
        };
        lookup.keys.push((column, field));
        if is_by_network || !parser.eat_sign(",")? {
            break;
        }
    }
    let token = parser.lexer.next()?;
    lookup.is_new_only = match () {
        () if token.is_word("output") => false,
        () if is_by_network && token.is_word("outputnew") => true,
        () => return parser.unexpected(&token, if is_by_network { "`OUTPUT` or `OUTPUTNEW`" } else { "`OUTPUT`" }),
    };
    loop {
        let column = parser.alias()?;
        let name = parser.optional_alias()?.unwrap_or_else(|| column.clone());
        lookup.outputs.push((column, name));
        if !parser.eat_sign(",")? {
            return Ok(Command::Lookup(Box::new(lookup)));
        }
    }
}

fn unmask(parser: &mut Parser) -> Result<Command> {
    let in_parentheses = parser.eat_sign("(")?;
    let fields = parser.fields()?;
    if in_parentheses {
        parser.expect_sign(")")?;
    }
    Ok(Command::Unmask(fields))
}

fn join(parser: &mut Parser, token: &Token) -> Result<Command> {
    let (mut keeps_all, mut left, mut right) = (false, None, None);
    while let Some(name) = option(parser, &["type", "left", "right"])? {
        match name.as_str() {
            "type" => {
                let kind = parser.lexer.next()?;
                keeps_all = match () {
                    () if kind.is_word("inner") => false,
                    () if kind.is_word("left") => true,
                    () => return parser.unexpected(&kind, "`inner` or `left`"),
                };
            }
            "left" => left = Some(parser.alias()?),
            _ => right = Some(parser.alias()?),
        }
    }
    let (Some(left), Some(right)) = (left, right) else {
        return malformed("`join` needs `left=` and `right=`", token.start, token.end);
    };
    if left == right {
        return malformed("the two sides of a `join` need two names", token.start, token.end);
    }
    parser.expect_word("where")?;
    let mut keys = Vec::new();
    loop {
        let start = parser.lexer.place()?;
        let one = parser.field()?;
        parser.expect_sign("=")?;
        let other = parser.field()?;
        let of = |field: &FieldName, side: &str| field.name.strip_prefix(side).and_then(|rest| rest.strip_prefix('.')).map(FieldName::plain);
        let pair = match (of(&one, &left), of(&other, &right)) {
            (Some(one), Some(other)) => Some((one, other)),
            _ => of(&other, &left).zip(of(&one, &right)),
        };
        match pair {
            Some((left, right)) => keys.push((parser.named(left), right)),
            None => {
                let message = format!("`where` compares a field of each side: `{left}.x = {right}.y`");
                return malformed(message, start, parser.lexer.end_before());
            }
        }
        if !parser.eat_word("and")? {
            break;
        }
    }
    let open = parser.lexer.next()?;
    if !open.is_sign("(") {
        return parser.unexpected(&open, "`(SOURCE ..)`");
    }
    let subscript = parser.inner_script(open.start, super::MAX_JOINED_ROWS, false)?;
    parser.left = Some(left.to_string());
    Ok(Command::Join {
        keeps_all,
        right,
        keys,
        subscript,
    })
}

fn append_columns(parser: &mut Parser) -> Result<Command> {
    let (mut overrides, mut max) = (false, DEFAULT_APPENDED);
    while let Some(name) = option(parser, &["override", "max"])? {
        match name.as_str() {
            "override" => overrides = flag(parser)?,
            _ => max = parser.count(MAX_LIMIT)?,
        }
    }
    let open = parser.lexer.next()?;
    if !open.is_sign("(") {
        return parser.unexpected(&open, "a subquery `(..)`");
    }
    Ok(Command::AppendColumns {
        overrides,
        subscript: parser.inner_script(open.start, max, false)?,
    })
}
