// A trace as flat columns, and which of its rows are on the page. Pure: no browser objects, so that 100,000 spans can be tested fast.
// Spans come in depth-first order, so the spans below span i are exactly i + 1 … end[i] - 1.

import type { TraceColumns } from '../api/types';
import { isWarning } from '../text/severity';

export interface Trace {
  id: string;
  xrayId: string;
  startNanos: string;
  /** At least one nanosecond, since times are drawn as shares of it. */
  duration: number;
  /** As the server told it; 0 where nothing has ended. */
  took: number;
  services: string[];
  nErrors: number;
  n: number;
  spanId: string[];
  parent: number[];
  depth: number[];
  start: number[];
  length: number[];
  service: number[];
  name: string[];
  kind: string[];
  error: boolean[];
  missingParent: boolean[];
  skewed: boolean[];
  inProgress: boolean[];
  /** One past the last span below each span. */
  end: Int32Array;
  /** Time of each span not covered by its children, in nanoseconds. */
  self: Float64Array;
  indexOf: Map<string, number>;
  /** Error spans in display order. */
  errors: number[];
  logs: {
    n: number;
    id: string[];
    nanos: string[];
    offset: number[];
    span: number[];
    severity: string[];
    service: string[];
    body: string[];
  };
  /** Logs of span i: logOrder[logStart[i]] … logOrder[logStart[i + 1] - 1]; those of no span come last (i = n). */
  logStart: Int32Array;
  logOrder: Int32Array;
}

/** Deepest level that is still indented; below it a badge tells the depth. */
export const MAX_INDENT = 16;

export function readTrace(t: TraceColumns): Trace {
  const s = t.spans;
  const n = s.span_id.length;
  const end = new Int32Array(n);
  // A later span of the same or a lesser depth ends the subtrees that are still open.
  const stack: number[] = [];
  for (let i = 0; i < n; i++) {
    while (stack.length && (s.depth[stack.at(-1)!] ?? 0) >= (s.depth[i] ?? 0)) end[stack.pop()!] = i;
    stack.push(i);
  }
  for (const i of stack) end[i] = n;

  const indexOf = new Map<string, number>();
  const errors: number[] = [];
  for (let i = 0; i < n; i++) {
    indexOf.set(s.span_id[i]!, i);
    if (s.status_code[i] === 'ERROR') errors.push(i);
  }

  const logCount = t.logs.id.length;
  const logStart = new Int32Array(n + 2);
  const home = (log: number): number => {
    const span = t.logs.span[log] ?? -1;
    return span >= 0 && span < n ? span : n;
  };
  for (let l = 0; l < logCount; l++) logStart[home(l) + 1]! += 1;
  for (let i = 0; i <= n; i++) logStart[i + 1]! += logStart[i]!;
  const logOrder = new Int32Array(logCount);
  const next = logStart.slice();
  for (let l = 0; l < logCount; l++) logOrder[next[home(l)]!++] = l;

  return {
    id: t.trace_id, xrayId: t.xray_trace_id, startNanos: t.start_unix_nano, duration: Math.max(1, t.duration_nano), took: t.duration_nano, services: t.services, nErrors: t.n_errors, n,
    spanId: s.span_id, parent: s.parent, depth: s.depth, start: s.start_offset_nano, length: s.duration_nano, service: s.service, name: s.name, kind: s.kind,
    error: s.status_code.map((c) => c === 'ERROR'), missingParent: s.missing_parent, skewed: s.skewed, inProgress: s.in_progress,
    end, self: selfTimes(s.parent, s.start_offset_nano, s.duration_nano), indexOf, errors,
    logs: {
      n: logCount, id: t.logs.id, nanos: t.logs.time_unix_nano, offset: t.logs.offset_nano, span: t.logs.span, severity: t.logs.severity,
      service: t.logs.service.map((v) => (typeof v === 'number' ? (t.services[v] ?? '') : (v ?? ''))), body: t.logs.body,
    },
    logStart, logOrder,
  };
}

/** Each span's duration less the union of its children's times within it. */
export function selfTimes(parent: readonly number[], start: readonly number[], length: readonly number[]): Float64Array {
  const n = parent.length;
  const self = Float64Array.from(length);
  const byStart = Array.from({ length: n }, (_, i) => i).sort((a, b) => start[a]! - start[b]!);
  const covered = new Float64Array(n).fill(-Infinity);
  for (const i of byStart) {
    const p = parent[i]!;
    if (p < 0) continue;
    const from = Math.max(start[i]!, start[p]!, covered[p]!);
    const to = Math.min(start[i]! + length[i]!, start[p]! + length[p]!);
    if (to > from) {
      self[p]! -= to - from;
      covered[p] = to;
    }
  }
  return self;
}

export type LogsShown = '' | 'low' | 'logs';

/** Rows as numbers: a span is its index, a log is -1 - its index. */
export const isLogRow = (row: number): boolean => row < 0;
export const logOfRow = (row: number): number => -1 - row;
export const rowOfLog = (log: number): number => -1 - log;

export function visibleRows(t: Trace, shut: ReadonlySet<number>, hide: LogsShown): Int32Array {
  const rows = new Int32Array(t.n + t.logs.n);
  let count = 0;
  const logsOf = (span: number): void => {
    if (hide === 'logs') return;
    for (let k = t.logStart[span]!; k < t.logStart[span + 1]!; k++) {
      const log = t.logOrder[k]!;
      if (hide === 'low' && !isWarning(t.logs.severity[log]!)) continue;
      rows[count++] = rowOfLog(log);
    }
  };
  for (let i = 0; i < t.n; ) {
    rows[count++] = i;
    if (shut.has(i)) {
      i = t.end[i]!;
    } else {
      logsOf(i);
      i += 1;
    }
  }
  logsOf(t.n);
  return rows.subarray(0, count);
}

export const logsOfSpan = (t: Trace, span: number): Int32Array => t.logOrder.subarray(t.logStart[span]!, t.logStart[span + 1]!);

export const canFold = (t: Trace, span: number): boolean => t.end[span]! > span + 1 || t.logStart[span + 1]! > t.logStart[span]!;

/** The spans above one, nearest first. */
export function ancestors(t: Trace, span: number): number[] {
  const found: number[] = [];
  // A bounded walk: a trace whose parents form a circle must not hang the page.
  for (let p = t.parent[span] ?? -1; p >= 0 && found.length < t.n; p = t.parent[p] ?? -1) found.push(p);
  return found;
}

/** Where an error began: the error spans with no error below them, in the order they ended. */
export function originError(t: Trace): number {
  let best = -1;
  for (let k = 0; k < t.errors.length; k++) {
    const i = t.errors[k]!;
    const after = t.errors[k + 1];
    if (after !== undefined && after < t.end[i]!) continue;
    if (best < 0 || t.start[i]! + t.length[i]! < t.start[best]! + t.length[best]!) best = i;
  }
  return best;
}

/** The next error after (or before) a span in display order; the first jump goes to where the error began. */
export function nextError(t: Trace, from: number, step: 1 | -1): number {
  if (t.errors.length === 0) return -1;
  if (from < 0) return originError(t);
  if (step > 0) return t.errors.find((i) => i > from) ?? t.errors[0]!;
  return t.errors.findLast((i) => i < from) ?? t.errors.at(-1)!;
}

/** Folds or unfolds one level more of the tree. */
export function shiftLevel(t: Trace, shut: ReadonlySet<number>, direction: 'fold' | 'unfold'): Set<number> {
  const next = new Set(shut);
  let level = direction === 'fold' ? -1 : Infinity;
  const open: number[] = [];
  for (let i = 0; i < t.n; ) {
    if (shut.has(i)) {
      if (direction === 'unfold') level = Math.min(level, t.depth[i]!);
      i = t.end[i]!;
    } else {
      if (t.end[i]! > i + 1) {
        open.push(i);
        if (direction === 'fold') level = Math.max(level, t.depth[i]!);
      }
      i += 1;
    }
  }
  if (direction === 'fold') for (const i of open) if (t.depth[i] === level) next.add(i);
  if (direction === 'unfold') for (const i of shut) if (t.depth[i] === level) next.delete(i);
  return next;
}

const SECOND = 1e9;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** Steps from ten seconds up to a day; finer and coarser ones are decimal. */
const STEPS = [10 * SECOND, 15 * SECOND, 30 * SECOND, ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE), ...[1, 2, 3, 6, 12].map((n) => n * HOUR), DAY];

/** Round marks of a time axis: about `wanted` of them between start and end, in nanoseconds. */
export function axisMarks(start: number, end: number, wanted: number): number[] {
  const raw = Math.max(1, (end - start) / wanted);
  const fits = (step: number): boolean => step >= raw * 0.999;
  const unit = raw > DAY ? DAY : 1;
  const power = unit * 10 ** Math.floor(Math.log10(raw / unit));
  const decimal = [1, 2, 2.5, 5, 10].map((f) => f * power);
  const step = (raw > 5 * SECOND * 1.001 && raw <= DAY ? STEPS.find(fits) : decimal.find(fits)) ?? raw;
  const marks: number[] = [];
  for (let k = Math.max(0, Math.ceil(start / step - 1e-9)); k * step < end - step * 0.05; k++) marks.push(k * step);
  return marks;
}

/**
 * Where a bar's duration is written, so that it covers neither the bar nor a tick: the left edge of the text. All in pixels of the time column;
 * `room` is its width with what is kept free at its right. To the right of the bar, else to the left, else behind the ticks at the right.
 */
export function labelPlace(text: number, left: number, right: number, room: number, ticks: readonly number[]): number {
  const free = (from: number): boolean => from >= 0 && from + text <= room && !ticks.some((t) => t > from - 1 && t < from + text);
  if (free(right)) return right;
  if (free(left - text)) return left - text;
  const behind = ticks.filter((t) => t >= right).map((t) => t + 2).sort((a, b) => a - b).find(free);
  return behind ?? Math.max(0, Math.min(right, room - text));
}
