// The list of lines: one 22 px row each, unfolded ones followed by the rows of their body.

import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import type { LogHit } from '../api/types';
import { Icon } from '../parts/icons';
import { type ListHandle, VirtualList } from '../parts/VirtualList';
import { href } from '../state/router';
import type { Column } from '../state/url';
import { plural } from '../text/number';
import { letter, serviceClass, severityClass } from '../text/severity';
import { clock, full, inOtherZone, millisOf } from '../text/time';
import { MAX_FOLD_ROWS, ROW_CHARS, columnValue, foldLines } from './hit';
import { type TailRow, isGap } from './tail';

export const ROW = 22;
const CHAR = 7.25;

type Flat = { kind: 'row'; row: TailRow } | { kind: 'fold'; hit: LogHit; line: number; text: string };

interface Props {
  rows: readonly TailRow[];
  columns: readonly Column[];
  open: readonly string[];
  active: string;
  selected: string;
  tz: string;
  /** Whether the range spans more than a day, so that times need their date. */
  dated: boolean;
  handle: { current: ListHandle | null };
  onPick(hit: LogHit): void;
  onKeyDown(event: KeyboardEvent): void;
  onScroll(top: number, atEnd: boolean): void;
  onNearEnd?: (() => void) | undefined;
  footer?: JSX.Element | null;
  label: string;
}

/** The place of a record among the rows as they are drawn. */
export function flatIndex(rows: readonly TailRow[], open: readonly string[], id: string): number {
  let at = 0;
  for (const row of rows) {
    if (row.id === id) return at;
    at += 1;
    if (!isGap(row) && open.includes(row.id)) at += foldLines(row.body, foldWidth()).length;
  }
  return -1;
}

const foldWidth = (): number => Math.floor(Math.min(1400, Math.max(300, innerWidth - 640)) / CHAR);

export function LogList(props: Props): JSX.Element {
  const { rows, open, columns, tz, dated } = props;
  const flat = useMemo(() => {
    const out: Flat[] = [];
    const opened = new Set(open);
    for (const row of rows) {
      out.push({ kind: 'row', row });
      if (isGap(row) || !opened.has(row.id)) continue;
      foldLines(row.body, foldWidth()).slice(0, MAX_FOLD_ROWS + 1).forEach((text, line) => out.push({ kind: 'fold', hit: row, line, text }));
    }
    return out;
  }, [rows, open]);

  const draw = (i: number): JSX.Element | null => {
    const item = flat[i];
    if (!item) return null;
    if (item.kind === 'fold') {
      return (
        <div key={`${item.hit.id}/${item.line}`} role="row" aria-rowindex={i + 1} class={`log-row fold ${severityClass(item.hit.severity)}`} data-id={item.hit.id}>
          <span role="gridcell" class="fold-text">{item.text}</span>
        </div>
      );
    }
    if (isGap(item.row)) {
      return (
        <div key={item.row.id} role="row" aria-rowindex={i + 1} class="log-row gap">
          <span role="gridcell">{item.row.gap > 0 ? `${plural(item.row.gap, 'line')} not shown: ` : ''}{item.row.reason}</span>
        </div>
      );
    }
    return <LogRow key={item.row.id} hit={item.row} index={i} columns={columns} tz={tz} dated={dated} active={item.row.id === props.active} selected={item.row.id === props.selected} unfolded={open.includes(item.row.id)} />;
  };

  const activeShown = props.active && rows.some((r) => r.id === props.active);
  return (
    <VirtualList
      class="log-list"
      role="grid"
      label={props.label}
      count={flat.length}
      columns={columns.length + 3}
      rowHeight={ROW}
      row={draw}
      handle={props.handle}
      active={activeShown ? `row-${props.active}` : undefined}
      onScroll={props.onScroll}
      {...(props.onNearEnd ? { onNearEnd: props.onNearEnd } : {})}
      onKeyDown={props.onKeyDown}
      onClick={(event) => {
        const target = event.target as Element;
        if (target.closest('a')) return;
        const id = target.closest('[data-id]')?.getAttribute('data-id');
        // Marking text with the mouse is not a click.
        if (!id || (getSelection()?.toString() ?? '') !== '') return;
        const hit = rows.find((r) => r.id === id);
        if (hit && !isGap(hit)) props.onPick(hit);
      }}
      footer={props.footer ?? null}
    />
  );
}

interface RowProps {
  hit: LogHit;
  index: number;
  columns: readonly Column[];
  tz: string;
  dated: boolean;
  active: boolean;
  selected: boolean;
  unfolded: boolean;
}

function LogRow({ hit, index, columns, tz, dated, active, selected, unfolded }: RowProps): JSX.Element {
  const at = millisOf(hit.time_unix_nano);
  return (
    <div
      role="row"
      id={`row-${hit.id}`}
      data-id={hit.id}
      aria-rowindex={index + 1}
      aria-selected={selected}
      class={`log-row ${severityClass(hit.severity)}${active ? ' active' : ''}${unfolded ? ' unfolded' : ''}`}
    >
      <span role="gridcell" class="letter" title={hit.severity}>{letter(hit.severity)}</span>
      <span role="gridcell" class={`at${dated ? ' dated' : ''}`} title={inOtherZone(at, tz)}>{dated ? full(at, tz).slice(5) : clock(at, tz)}</span>
      {columns.map((c) => <Cell key={c.name} hit={hit} column={c} />)}
      <span role="gridcell" class="glyph">
        {hit.trace_id ? <a href={href('trace', { id: hit.trace_id, span: hit.span_id ?? '', log: hit.id })} tabIndex={-1} aria-label="Open its trace"><Icon name="trace" /></a> : null}
      </span>
    </div>
  );
}

function Cell({ hit, column }: { hit: LogHit; column: Column }): JSX.Element {
  const value = columnValue(hit, column.name);
  if (column.name === 'body') return <span role="gridcell" class="body">{value.length > ROW_CHARS ? value.slice(0, ROW_CHARS) : value}</span>;
  const style = column.width === null ? undefined : { flexBasis: `${column.width}px` };
  if (column.name === 'service') {
    return (
      <span role="gridcell" class={`cell service ${serviceClass(value)}`} style={style} title={value}>
        {value ? <i class="dot" /> : null}{value || '–'}
      </span>
    );
  }
  return <span role="gridcell" class="cell" style={style} title={value}>{value}</span>;
}
