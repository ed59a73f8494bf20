// The waterfall: spans and, beneath each, the logs it wrote. Only visible rows exist; bars are placed in per cent of the shown window.

import { useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { Icon } from '../parts/icons';
import { Splitter } from '../parts/Splitter';
import { type ListHandle, VirtualList } from '../parts/VirtualList';
import { prefs, setPrefs } from '../state/prefs';
import { axisLabel, count, duration } from '../text/number';
import { letter, serviceClass, severityClass } from '../text/severity';
import { clock, millisOf } from '../text/time';
import { MAX_INDENT, type Trace, axisMarks, canFold, isLogRow, labelPlace, logOfRow, logsOfSpan } from './model';

export const ROW = 24;
/** Most log ticks drawn on one bar. */
const MAX_TICKS = 60;
const INDENT = 12;
/** Width of a letter of a duration, and what is free around it, in pixels; as in trace.css. */
const LETTER = { wide: 7.2, narrow: 6.6 };
const AROUND = { wide: 10, narrow: 6 };
const NARROW = 700;

export interface Zoom {
  start: number;
  end: number;
}

interface Props {
  trace: Trace;
  rows: Int32Array;
  shut: ReadonlySet<number>;
  zoom: Zoom | null;
  selected: number;
  selectedLog: string;
  active: number;
  tz: string;
  handle: { current: ListHandle | null };
  onPick(row: number): void;
  onFold(span: number): void;
  onZoom(zoom: Zoom | null): void;
  onKeyDown(event: KeyboardEvent): void;
}

export function Waterfall(props: Props): JSX.Element {
  const { trace, rows, zoom, tz } = props;
  const shown: Zoom = zoom ?? { start: 0, end: trace.duration };
  const box = useRef<HTMLDivElement>(null);
  const drag = useSignal<{ from: number; to: number } | null>(null);
  const dragged = useRef(false);
  const latest = useRef({ shown, props });
  latest.current = { shown, props };

  // Where in the time column an event is, 0 … 1; null outside of it.
  const share = (e: MouseEvent, clamp: boolean): number | null => {
    const axis = box.current?.querySelector('.axis');
    if (!axis) return null;
    const r = axis.getBoundingClientRect();
    const x = (e.clientX - r.left) / r.width;
    if (clamp) return Math.max(0, Math.min(1, x));
    return x < 0 || x > 1 ? null : x;
  };

  const onPointerDown = (e: PointerEvent): void => {
    const from = share(e, false);
    if (e.button !== 0 || e.pointerType === 'touch' || from === null || (e.target as Element).closest('button, .splitter')) return;
    const startX = e.clientX;
    dragged.current = false;
    const move = (m: PointerEvent): void => {
      if (!dragged.current && Math.abs(m.clientX - startX) < 5) return;
      dragged.current = true;
      getSelection()?.removeAllRanges();
      drag.value = { from, to: share(m, true) ?? from };
    };
    const up = (): void => {
      removeEventListener('pointermove', move);
      removeEventListener('pointerup', up);
      const d = drag.value;
      drag.value = null;
      if (!d || !dragged.current) return;
      const w = latest.current.shown;
      const at = (x: number): number => w.start + x * (w.end - w.start);
      const [a, b] = [Math.min(d.from, d.to), Math.max(d.from, d.to)];
      if (b - a > 0.003) props.onZoom({ start: Math.floor(at(a)), end: Math.max(Math.floor(at(a)) + 1, Math.ceil(at(b))) });
    };
    addEventListener('pointermove', move);
    addEventListener('pointerup', up);
  };

  // Ctrl and the wheel zoom around the pointer. Added by hand, since the page must be able to stop the browser's own zoom.
  useEffect(() => {
    const el = box.current;
    if (!el) return;
    const onWheel = (e: WheelEvent): void => {
      if (!e.ctrlKey && !e.metaKey) return;
      const x = share(e, false);
      if (x === null) return;
      e.preventDefault();
      const { shown: w, props: p } = latest.current;
      const factor = e.deltaY > 0 ? 1.25 : 0.8;
      const width = Math.max(10, (w.end - w.start) * factor);
      const centre = w.start + x * (w.end - w.start);
      const start = Math.max(0, Math.floor(centre - x * width));
      const end = Math.min(p.trace.duration, Math.ceil(start + width));
      p.onZoom(start <= 0 && end >= p.trace.duration ? null : { start, end: Math.max(start + 1, end) });
    };
    el.addEventListener('wheel', onWheel, { passive: false });
    return () => el.removeEventListener('wheel', onWheel);
  }, []);

  const width = shown.end - shown.start;
  const percent = (offset: number): number => ((offset - shown.start) / width) * 100;
  const nameWidth = prefs.value.nameWidth;
  // A bar may fill the time column: its duration stands in the room kept free behind that.
  const narrow = innerWidth <= NARROW;
  const textWidth = (text: string): number => Math.ceil(text.length * (narrow ? LETTER.narrow : LETTER.wide)) + (narrow ? AROUND.narrow : AROUND.wide);
  const gutter = textWidth('0'.repeat(Math.max(7, duration(trace.duration).length) + 1));
  const lane = useSignal(0);
  // A mark's text needs some 90 pixels.
  const marks = axisMarks(shown.start, shown.end, Math.max(1, Math.min(4, Math.floor((lane.value || 360) / 90))));
  useEffect(() => {
    const axis = box.current?.querySelector('.axis');
    if (!axis) return;
    const measure = (): void => { lane.value = axis.clientWidth; };
    const seen = new ResizeObserver(measure);
    seen.observe(axis);
    measure();
    return () => seen.disconnect();
  }, []);
  const place = (text: string, left: number, right: number, ticks: readonly number[]): number => {
    const px = (share: number): number => (share / 100) * lane.value;
    return labelPlace(textWidth(text), px(left) - 2, px(right) + 2, lane.value + gutter, ticks.map(px));
  };

  const draw = (i: number): JSX.Element | null => {
    const row = rows[i];
    if (row === undefined) return null;
    return isLogRow(row)
      ? <LogRow key={`l${row}`} {...props} row={row} index={i} percent={percent} place={place} />
      : <SpanRow key={`s${row}`} {...props} row={row} index={i} percent={percent} place={place} />;
  };
  const d = drag.value;
  return (
    <div class="waterfall" ref={box} style={{ '--name': `${nameWidth}px`, '--gutter': `${gutter}px` }} onPointerDown={onPointerDown}>
      <div class="waterfall-head">
        <span class="waterfall-title">Service · operation</span>
        <Splitter label="Width of the names" value={nameWidth} min={120} max={900} direction={1} onChange={(w) => setPrefs({ nameWidth: w })} class="name-splitter" />
        <div class="axis" aria-hidden="true">
          {marks.map((m) => <span key={m} style={{ left: `${percent(m)}%` }}>{axisLabel(m)}</span>)}
        </div>
      </div>
      <VirtualList
        class="waterfall-rows"
        role="treegrid"
        label="Spans and logs of the trace"
        columns={2}
        count={rows.length}
        rowHeight={ROW}
        row={draw}
        handle={props.handle}
        active={rows.includes(props.active) ? `trace-row-${props.active}` : undefined}
        onKeyDown={props.onKeyDown}
        onClick={(e) => {
          if (dragged.current) {
            dragged.current = false;
            return;
          }
          const target = e.target as Element;
          const at = target.closest('[data-row]')?.getAttribute('data-row');
          if (at === null || at === undefined) return;
          if (target.closest('.fold')) props.onFold(Number(at));
          else if ((getSelection()?.toString() ?? '') === '') props.onPick(Number(at));
        }}
      />
      {d ? <div class="zoom-drag" aria-hidden="true"><span><i style={{ left: `${Math.min(d.from, d.to) * 100}%`, width: `${Math.abs(d.to - d.from) * 100}%` }} /></span></div> : null}
      <span class="sr-only" role="status">{`Times shown in ${tz === 'utc' ? 'UTC' : tz}`}</span>
    </div>
  );
}

interface RowProps extends Props {
  row: number;
  index: number;
  percent(offset: number): number;
  /** The left edge of a duration's text in pixels, for a bar and ticks in per cent. */
  place(text: string, left: number, right: number, ticks: readonly number[]): number;
}

function SpanRow({ trace: t, row: i, index, shut, selected, active, percent, place }: RowProps): JSX.Element {
  const depth = t.depth[i]!;
  const foldable = canFold(t, i);
  const folded = shut.has(i);
  const service = t.services[t.service[i]!] ?? '';
  const left = percent(t.start[i]!);
  const right = percent(t.start[i]! + t.length[i]!);
  const outside = right < 0 || left > 100;
  const barLeft = Math.max(0, Math.min(100, left));
  const barWidth = Math.max(0, Math.min(100, right) - barLeft);
  const logs = logsOfSpan(t, i);
  const notes: string[] = [];
  if (t.missingParent[i]) notes.push('parent missing');
  if (t.skewed[i]) notes.push('clock skew');
  if (t.inProgress[i]) notes.push('in progress');
  const below = t.end[i]! - i - 1;
  const ticks = Array.from(logs.subarray(0, MAX_TICKS), (log) => ({ log, at: percent(t.logs.offset[log]!) })).filter(({ at }) => at >= 0 && at <= 100);
  const length = !t.inProgress[i] ? duration(t.length[i]!) : t.length[i]! > 0 ? `${duration(t.length[i]!)}…` : 'in progress';
  return (
    <div
      role="row"
      id={`trace-row-${i}`}
      data-row={i}
      aria-level={depth + 1}
      aria-expanded={foldable ? !folded : undefined}
      aria-selected={i === selected}
      aria-rowindex={index + 1}
      class={`span-row ${serviceClass(service)}${t.error[i] ? ' error' : ''}${i === active ? ' active' : ''}`}
    >
      <span role="gridcell" class="name" style={{ paddingLeft: `${6 + Math.min(depth, MAX_INDENT) * INDENT}px` }}>
        <span class={`fold${foldable ? '' : ' leaf'}`} aria-hidden="true">{foldable ? <Icon name={folded ? 'right' : 'down'} /> : null}</span>
        {depth > MAX_INDENT ? <span class="badge" title={`Level ${depth + 1}`}>+{depth - MAX_INDENT}</span> : null}
        <i class="dot" />
        <span class="service-name">{service || 'unknown'}</span> <span class="operation" title={t.name[i]}>{t.name[i]}</span>
        {t.error[i] ? <b class="letter sev-error" title="Error">E</b> : null}
        {folded ? <span class="badge" title={`${count(below)} spans and ${count(logs.length)} logs folded`}>{below > 0 ? count(below) : count(logs.length)}</span> : null}
        {notes.map((n) => <span key={n} class="badge note">{n}</span>)}
      </span>
      <span role="gridcell" class="lane">
        {outside ? (
          <span class={`beyond ${right < 0 ? 'before' : 'after'}`}>{right < 0 ? '‹ ' : ''}{length}{right < 0 ? '' : ' ›'}</span>
        ) : (
          <>
            <i class={`span-bar${t.inProgress[i] ? ' open' : ''}`} style={{ left: `${barLeft}%`, width: `${barWidth}%` }} />
            {ticks.map(({ log, at }) => <i key={log} class={`tick ${severityClass(t.logs.severity[log]!)}`} style={{ left: `${at}%` }} />)}
            <span class="length" style={{ left: `${place(length, barLeft, barLeft + barWidth, ticks.map(({ at }) => at))}px` }}>{length}</span>
          </>
        )}
      </span>
    </div>
  );
}

function LogRow({ trace: t, row, index, percent, selectedLog, active, tz }: RowProps): JSX.Element {
  const log = logOfRow(row);
  const span = t.logs.span[log]!;
  const depth = span >= 0 ? t.depth[span]! + 1 : 0;
  const at = percent(t.logs.offset[log]!);
  const severity = t.logs.severity[log]!;
  const body = t.logs.body[log]!;
  return (
    <div
      role="row"
      id={`trace-row-${row}`}
      data-row={row}
      aria-level={depth + 1}
      aria-selected={t.logs.id[log] === selectedLog}
      aria-rowindex={index + 1}
      class={`span-row log ${severityClass(severity)}${row === active ? ' active' : ''}`}
    >
      <span role="gridcell" class="message" style={{ paddingLeft: `${10 + Math.min(depth, MAX_INDENT) * INDENT}px` }}>
        <b class="letter" title={severity}>{letter(severity)}</b>
        <span class="log-at">{clock(millisOf(t.logs.nanos[log]!), tz)}</span>
        {span < 0 ? <span class="badge">no span</span> : null}
        <span class="log-body">{body.length > 400 ? body.slice(0, 400) : body}</span>
      </span>
      <span role="gridcell" class="lane" aria-label={`${duration(t.logs.offset[log]!)} after the start`}>
        {at >= 0 && at <= 100 ? <i class="tick" style={{ left: `${at}%` }} /> : null}
      </span>
    </div>
  );
}
